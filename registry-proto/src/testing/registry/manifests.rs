//! `/v2/<name>/manifests/<reference>`.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::{Method, Response, StatusCode};
use serde_json::Value;

use super::Registry;
use super::call::Call;
use super::ledger::EarlyManifest;
use super::negotiate::Accepted;
use super::profile::{Referrers, Support};
use super::reply::{CONTENT_DIGEST, Code, Outcome, Refusal, With as _, empty, with_body};
use super::route::tag;
use crate::spec::{Digest, Manifest, MediaType, RepositoryName, Tag, TagOrDigest};

impl Registry {
    pub(super) fn manifest_endpoint(
        &mut self,
        call: &Call<'_>,
        name: &RepositoryName,
        reference: &TagOrDigest,
        body: Bytes,
    ) -> Outcome {
        match *call.method {
            Method::GET => self.get_manifest(call, name, reference),
            Method::HEAD => {
                self.get_manifest(call, name, reference).map_err(|refusal| match self.profile.absent_head {
                    StatusCode::NOT_FOUND => refusal,
                    status => refusal.status(status),
                })
            }
            Method::PUT => self.put_manifest(call, name, reference, body),
            Method::DELETE => self.delete_manifest(name, reference),
            _ => Err(Refusal::no_such_method()),
        }
    }

    fn get_manifest(&self, call: &Call<'_>, name: &RepositoryName, reference: &TagOrDigest) -> Outcome {
        let unknown = || Refusal::from(Code::MANIFEST_UNKNOWN).detail(format!("{name} {reference}"));
        let repository = self.repositories.get(name.as_str()).ok_or_else(|| match reference {
            TagOrDigest::Tag(_) => unknown(),
            TagOrDigest::Digest(_) if self.profile.strict => Code::NAME_UNKNOWN.into(),
            TagOrDigest::Digest(_) => unknown(),
        })?;
        let digest = match reference {
            TagOrDigest::Tag(tag) => {
                let tagged = repository.tags.get(tag.as_str());
                let meant = || repository.manifests.keys().find(|digest| Tag::of_referrers(digest) == *tag);
                tagged.or_else(|| meant().filter(|_| self.profile.digests_as_tags)).ok_or_else(unknown)?
            }
            TagOrDigest::Digest(digest) => digest,
        };
        let etag = format!("\"{digest}\"");
        if call.header(&IF_NONE_MATCH).is_some_and(|told| told == etag || told == digest.as_str()) {
            return Ok(empty(StatusCode::NOT_MODIFIED).with(ETAG, &etag));
        }
        let stored = repository.manifests.get(digest).ok_or_else(unknown)?;
        let accepted = Accepted::of(call);
        let by_tag = match reference {
            TagOrDigest::Tag(tag) => Some(tag),
            TagOrDigest::Digest(_) => None,
        };
        let (digest, manifest) = accepted.choose(&self.profile, repository, digest, stored, by_tag.is_some())?;
        let (media_type, bytes) = match by_tag {
            Some(tag) if accepted.is_converted(&self.profile, manifest) => {
                (MediaType::DOCKER_SCHEMA1_SIGNED, super::negotiate::schema1(name, tag, manifest))
            }
            _ => (manifest.media_type().clone(), manifest.bytes().clone()),
        };
        let reply = with_body(StatusCode::OK, bytes).with(CONTENT_TYPE, media_type.as_str());
        Ok(self.with_digest(reply, digest).with(ETAG, &format!("\"{digest}\"")))
    }

    fn put_manifest(
        &mut self,
        call: &Call<'_>,
        name: &RepositoryName,
        reference: &TagOrDigest,
        body: Bytes,
    ) -> Outcome {
        let (strict, most) = (self.profile.strict, self.profile.max_manifest);
        self.must_exist(name)?;
        if body.len() > most {
            // distribution says 400; the specification asks for 413.
            let status = if strict { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return Err(Refusal::from(Code::MANIFEST_INVALID).status(status).detail("http: request body too large"));
        }
        if self.profile.conditional_put && !self.may_replace(call, name, reference) {
            return Err(Refusal::text(StatusCode::PRECONDITION_FAILED, "412 Precondition Failed\n"));
        }
        let content_type = call.header(&CONTENT_TYPE);
        let media_type = MediaType::new(content_type.unwrap_or_default());
        if self.profile.refused_media_types.contains(&media_type) {
            return Err(Refusal::from(Code::MANIFEST_INVALID).status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if strict && content_type.is_none_or(|told| told.contains(';')) {
            return Err(Refusal::from(Code::MANIFEST_INVALID).detail("Content-Type is to be that of the manifest"));
        }
        let manifest = Manifest::parse(body, content_type, None)
            .map_err(|why| Refusal::from(Code::MANIFEST_INVALID).detail(why.to_string()))?;
        if !manifest.media_type().is_manifest_or_index() || !media_type.is_manifest_or_index() {
            let detail = format!("unsupported manifest media type and no default available: {media_type}");
            return Err(Refusal::from(Code::MANIFEST_INVALID).detail(detail));
        }
        let digest = match reference {
            TagOrDigest::Tag(_) => manifest.digest().clone(),
            TagOrDigest::Digest(said) => match said.algorithm() {
                Some(algorithm) if Digest::compute(algorithm, manifest.bytes()) == *said => said.clone(),
                _ => return Err(Code::DIGEST_INVALID.into()),
            },
        };
        let also = call.query.all("tag").filter(|_| strict).map(tag).collect::<Result<Vec<_>, _>>()?;

        let missing = self.repository(name).missing(&manifest);
        if !missing.is_empty() {
            let refusal =
                Refusal::each(Code::MANIFEST_BLOB_UNKNOWN, missing.iter().map(|digest| Value::from(digest.as_str())));
            let early = EarlyManifest { repository: name.to_string(), reference: reference.to_string(), missing };
            self.ledger.early_manifests.push(early);
            return Err(refusal);
        }
        let subject = manifest.subject().map(|subject| subject.digest.clone());
        let repository = self.repository(name);
        repository.manifests.insert(digest.clone(), manifest);
        if let TagOrDigest::Tag(tag) = reference {
            repository.tag(tag.as_str(), digest.clone());
        }
        also.iter().for_each(|tag| repository.tag(tag.as_str(), digest.clone()));
        *self.ledger.manifests.entry((name.to_string(), reference.to_string())).or_default() += 1;

        let location = format!("{}/v2/{name}/manifests/{digest}", self.host(call));
        let mut reply = self.with_digest(empty(StatusCode::CREATED).with(LOCATION, &location), &digest);
        let told = self.profile.referrers == Referrers::Listed && self.profile.tells_subject;
        if let Some(subject) = subject.filter(|_| told) {
            reply = reply.with(HeaderName::from_static("oci-subject"), subject.as_str());
        }
        for tag in also {
            reply = reply.with(HeaderName::from_static("oci-tag"), tag.as_str());
        }
        Ok(reply)
    }

    fn with_digest(&self, reply: Response<Bytes>, digest: &Digest) -> Response<Bytes> {
        if self.profile.tells_digest { reply.with(CONTENT_DIGEST, digest.as_str()) } else { reply }
    }

    /// Whether what is there is what the client says that it replaces.
    fn may_replace(&self, call: &Call<'_>, name: &RepositoryName, reference: &TagOrDigest) -> bool {
        let repository = self.repositories.get(name.as_str());
        let there = repository.and_then(|repository| match reference {
            TagOrDigest::Tag(tag) => repository.tags.get(tag.as_str()),
            TagOrDigest::Digest(digest) => repository.manifests.get_key_value(digest).map(|(digest, _)| digest),
        });
        let is = |told: &str| there.is_some_and(|there| told == "*" || told == format!("\"{there}\""));
        call.header(&IF_MATCH).is_none_or(is) && !call.header(&IF_NONE_MATCH).is_some_and(is)
    }

    fn delete_manifest(&mut self, name: &RepositoryName, reference: &TagOrDigest) -> Outcome {
        if let Support::No(status) = self.profile.delete {
            return Err(Refusal::from(Code::UNSUPPORTED).status(status));
        }
        let unknown = || Refusal::from(Code::MANIFEST_UNKNOWN).detail(format!("{name} {reference}"));
        let tags_too = self.profile.delete_tags;
        let repository = self.repositories.get_mut(name.as_str()).ok_or_else(unknown)?;
        match reference {
            TagOrDigest::Tag(_) if !tags_too => return Err(Code::DIGEST_INVALID.into()),
            TagOrDigest::Tag(tag) => {
                repository.tags.remove(tag.as_str()).ok_or_else(unknown)?;
            }
            TagOrDigest::Digest(digest) => {
                repository.manifests.remove(digest).ok_or_else(unknown)?;
                repository.tags.retain(|_, tagged| tagged != digest);
            }
        }
        Ok(empty(StatusCode::ACCEPTED))
    }
}
