//! `/v2/<name>/referrers/<digest>`.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, LINK};
use serde_json::json;

use super::Registry;
use super::call::Call;
use super::lists::only_get;
use super::profile::Referrers;
use super::query::encode;
use super::reply::{Code, Outcome, Refusal, With as _, json_reply, with_body};
use crate::spec::{Descriptor, Digest, Manifest, MediaType, RepositoryName};

impl Registry {
    pub(super) fn referrers_endpoint(&self, call: &Call<'_>, name: &RepositoryName, subject: &Digest) -> Outcome {
        match self.profile.referrers {
            Referrers::Unknown(StatusCode::NOT_FOUND) => return Err(Refusal::no_such_path()),
            Referrers::Unknown(status) => return Err(Refusal::from(Code::UNSUPPORTED).status(status)),
            Referrers::Page(page) => {
                return Ok(with_body(StatusCode::OK, page.into()).with(CONTENT_TYPE, "text/html; charset=utf-8"));
            }
            Referrers::Listed => only_get(call)?,
        }
        let kind = call.query.non_empty("artifactType");
        let wanted = kind.filter(|_| self.profile.filters_referrers).map(MediaType::new);
        let after = call.query.get("last");
        let manifests = self.repositories.get(name.as_str()).map(|repository| repository.manifests.values());
        let mut rest = manifests
            .into_iter()
            .flatten()
            .filter(|manifest| manifest.subject().is_some_and(|named| named.digest == *subject))
            .map(Manifest::referrer)
            .filter(|descriptor| wanted.is_none() || descriptor.artifact_type == wanted)
            // (They are kept in the order of their digests.)
            .filter(|descriptor| after.is_none_or(|last| descriptor.digest.as_str() > last));
        let most = self.profile.referrers_page;
        let page: Vec<Descriptor> = rest.by_ref().take(most.unwrap_or(usize::MAX)).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX.as_str(), "manifests": page });
        let mut reply = json_reply(MediaType::OCI_INDEX.as_str(), &index);
        if wanted.is_some() {
            reply = reply.with(HeaderName::from_static("oci-filters-applied"), "artifactType");
        }
        if let (Some(last), true) = (page.last(), rest.next().is_some()) {
            let kind = kind.map(|kind| format!("artifactType={}&", encode(kind))).unwrap_or_default();
            let last = encode(last.digest.as_str());
            reply = reply.with(LINK, &format!("</v2/{name}/referrers/{subject}?{kind}last={last}>; rel=\"next\""));
        }
        Ok(reply)
    }
}
