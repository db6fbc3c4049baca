//! `/v2/<name>/blobs/uploads/`: opening, continuing, finishing and giving up uploads.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{Method, Response, StatusCode};

use super::Registry;
use super::auth;
use super::blobs::digest_in_query;
use super::call::Call;
use super::ledger::{Mismatch, Outcome as Ending};
use super::profile::{LocationStyle, Mount, StaleState, Support};
use super::reply::{CONTENT_DIGEST, Code, Outcome, Refusal, With as _, empty};
use super::route::Route;
use super::session::{Session, offset};
use super::store::Content;
use crate::spec::{Algorithm, Digest, RepositoryName};

const UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const CHUNK_MAX: HeaderName = HeaderName::from_static("oci-chunk-max-length");

impl Registry {
    /// `POST`: mounts, takes a whole blob, or opens a session.
    pub(super) fn uploads_endpoint(&mut self, call: &Call<'_>, name: &RepositoryName, body: Bytes) -> Outcome {
        if *call.method != Method::POST {
            return Err(Refusal::no_such_method());
        }
        self.must_exist(name)?;
        if let Some(reply) = self.mount(call, name)? {
            return Ok(reply);
        }
        self.must_have_length(call)?;
        if let Some(digest) = call.query.get("digest").filter(|_| self.profile.single_post) {
            let digest = digest_in_query(Some(digest))?;
            self.must_be_octets(call)?;
            let id = self.open(name);
            self.append(&id, body);
            return self.commit(call, &id, digest);
        }
        let id = self.open(name);
        let session = self.uploads.get(&id).ok_or(Code::UNKNOWN)?;
        Ok(self.session_reply(StatusCode::ACCEPTED, call, &id, session))
    }

    /// Everything about one session.
    pub(super) fn upload_endpoint(&mut self, call: &Call<'_>, name: &RepositoryName, id: &str, body: Bytes) -> Outcome {
        match *call.method {
            Method::GET | Method::HEAD => {
                if let Support::No(status) = self.profile.status_get {
                    return Err(Refusal::from(Code::UNSUPPORTED).status(status));
                }
                self.find(call, name, id)?;
                let session = self.uploads.get(id).ok_or(Code::UPLOAD_UNKNOWN)?;
                Ok(self.session_reply(StatusCode::NO_CONTENT, call, id, session))
            }
            Method::PATCH => {
                self.admit_chunk(call, name, id)?;
                self.must_be_whole(call, &body)?;
                self.append(id, body);
                let session = self.uploads.get(id).ok_or(Code::UPLOAD_UNKNOWN)?;
                Ok(self.session_reply(self.profile.chunk_status, call, id, session))
            }
            Method::PUT => {
                let digest = self.admit_end(call, name, id)?;
                self.must_be_whole(call, &body)?;
                if body.is_empty() && !self.profile.empty_end && self.uploads.get(id).is_some_and(|s| s.size() > 0) {
                    return Err(Refusal::from(Code::UNKNOWN).status(StatusCode::INTERNAL_SERVER_ERROR));
                }
                self.append(id, body);
                self.commit(call, id, digest)
            }
            Method::DELETE => {
                if let Support::No(status) = self.profile.cancel {
                    return Err(Refusal::from(Code::UNSUPPORTED).status(status));
                }
                self.find(call, name, id)?;
                self.uploads.remove(id);
                self.ledger.closed(id, Ending::Cancelled);
                Ok(empty(StatusCode::NO_CONTENT).with(UUID, id))
            }
            _ => Err(Refusal::no_such_method()),
        }
    }

    /// A chunk or a whole blob of which only this much came.
    pub(super) fn upload_cut(&mut self, call: &Call<'_>, name: &RepositoryName, id: &str, got: Bytes) {
        let admitted = match *call.method {
            Method::PATCH => self.admit_chunk(call, name, id),
            Method::PUT => self.admit_end(call, name, id).map(|_| ()),
            _ => return,
        };
        if admitted.is_err() || got.is_empty() {
            return;
        }
        let keep = self.profile.keep_partial;
        self.ledger.received(id, got.len() as u64);
        if let Some(session) = self.uploads.get_mut(id) {
            match keep {
                true => session.push(got),
                false => session.spoilt = true,
            }
        }
    }

    /// Finds the session, if the request is at a place where it may be found.
    fn find(&mut self, call: &Call<'_>, name: &RepositoryName, id: &str) -> Result<(), Refusal> {
        let strict = self.profile.strict;
        let told = match self.profile.location_state {
            true => Some(offset(&call.query, name, id, strict)),
            false => None,
        };
        let asks = matches!(*call.method, Method::GET | Method::HEAD);
        let cancels = self.profile.stale_state == StaleState::LosesSession;
        // distribution 3 doesn't look at the query of who only asks.
        let looks = !asks || cancels || strict;
        if looks && told == Some(None) {
            return Err(Code::UPLOAD_INVALID.into());
        }
        let session = self.uploads.get(id).filter(|session| session.repository == *name);
        let session = session.ok_or(Code::UPLOAD_UNKNOWN)?;
        let stale = told.flatten().is_some_and(|told| told != session.size());
        if session.spoilt || (stale && cancels) {
            self.uploads.remove(id);
            self.ledger.closed(id, Ending::Lost);
            return Err(Code::UPLOAD_INVALID.into());
        }
        // Giving up needs no newest place, if one has to be strict about it: there is no content in it.
        if stale && !asks && !(strict && *call.method == Method::DELETE) {
            return Err(self.out_of_order(call, id));
        }
        Ok(())
    }

    /// What can be said against a `PATCH` before its body.
    fn admit_chunk(&mut self, call: &Call<'_>, name: &RepositoryName, id: &str) -> Result<(), Refusal> {
        if let Support::No(status) = self.profile.patch {
            return Err(Refusal::from(Code::UNSUPPORTED).status(status));
        }
        self.find(call, name, id)?;
        match call.header(&CONTENT_TYPE) {
            Some("application/octet-stream") => {}
            None if !self.profile.strict => {}
            _ if self.profile.strict => self.must_be_octets(call)?,
            _ => return Err(Refusal::from(Code::UNKNOWN).detail("bad Content-Type")),
        }
        self.must_have_length(call)?;
        if self.profile.strict && call.length() == Some(0) {
            return Err(Refusal::from(Code::SIZE_INVALID).detail("there is no empty chunk"));
        }
        self.check_range(call, id, self.profile.strict)?;
        self.check_chunk_size(call, id)
    }

    /// What can be said against a finishing `PUT` before its body.
    fn admit_end(&mut self, call: &Call<'_>, name: &RepositoryName, id: &str) -> Result<Digest, Refusal> {
        self.find(call, name, id)?;
        let digest = digest_in_query(call.query.non_empty("digest"))?;
        self.must_have_length(call)?;
        // distribution doesn't look at the range here, and adds whatever comes.
        if self.profile.strict && call.length() != Some(0) {
            self.must_be_octets(call)?;
            let continues = self.uploads.get(id).is_some_and(|session| session.size() > 0);
            self.check_range(call, id, continues)?;
        }
        if call.headers.contains_key(CONTENT_RANGE) {
            self.check_chunk_size(call, id)?;
        }
        let follows = self.uploads.get(id).is_some_and(|session| session.ended) && call.length() != Some(0);
        if follows { Err(Refusal::from(Code::SIZE_INVALID).detail("a chunk before was too small")) } else { Ok(digest) }
    }

    fn check_range(&self, call: &Call<'_>, id: &str, required: bool) -> Result<(), Refusal> {
        let (told, length) = (call.headers.get(CONTENT_RANGE), call.length());
        let (Some(told), Some(length)) = (told, length) else {
            let refusal =
                || Refusal::from(Code::RANGE_INVALID).status(StatusCode::BAD_REQUEST).detail("no Content-Range");
            return if required { Err(refusal()) } else { Ok(()) };
        };
        if !self.profile.checks_content_range {
            return Ok(());
        }
        let read = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let range = told.to_str().ok().and_then(|told| told.split_once('-'));
        let Some((first, last)) = range.and_then(|(first, last)| Some((read(first)?, read(last)?))) else {
            let refusal = if self.profile.strict {
                Refusal::from(Code::RANGE_INVALID).status(StatusCode::BAD_REQUEST)
            } else {
                Refusal::from(Code::UNKNOWN)
            };
            return Err(refusal.detail("invalid content range format"));
        };
        let here = self.uploads.get(id).map(Session::size);
        if first > last || Some(first) != here {
            return Err(self.out_of_order(call, id));
        }
        if (last - first).checked_add(1) != Some(length) {
            return Err(Code::SIZE_INVALID.into());
        }
        Ok(())
    }

    fn check_chunk_size(&self, call: &Call<'_>, id: &str) -> Result<(), Refusal> {
        let too_large = |most| call.length().is_some_and(|length| length > most);
        if self.profile.chunk_max.is_some_and(too_large) {
            let refusal = Refusal::from(Code::RANGE_INVALID).message("request body is too large");
            return Err(refusal.status(self.profile.chunk_max_status));
        }
        match self.uploads.get(id) {
            Some(session) if session.ended => {
                Err(Refusal::from(Code::SIZE_INVALID).detail("the chunk before was too small"))
            }
            _ => Ok(()),
        }
    }

    fn out_of_order(&self, call: &Call<'_>, id: &str) -> Refusal {
        let refusal = Refusal::from(Code::RANGE_INVALID);
        match self.uploads.get(id).filter(|_| self.profile.range_on_416) {
            Some(session) => {
                let refusal = refusal.header(LOCATION, &session.location(id, &self.profile, &call.base()));
                match session.range(self.profile.range, true) {
                    Some(range) => refusal.header(RANGE, &range),
                    None => refusal,
                }
            }
            None => refusal,
        }
    }

    fn must_have_length(&self, call: &Call<'_>) -> Result<(), Refusal> {
        if self.profile.strict && call.length().is_none() {
            return Err(Refusal::from(Code::SIZE_INVALID).status(StatusCode::LENGTH_REQUIRED));
        }
        Ok(())
    }

    fn must_be_octets(&self, call: &Call<'_>) -> Result<(), Refusal> {
        if self.profile.strict && call.header(&CONTENT_TYPE) != Some("application/octet-stream") {
            return Err(Refusal::from(Code::UNSUPPORTED).status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        Ok(())
    }

    fn must_be_whole(&self, call: &Call<'_>, body: &Bytes) -> Result<(), Refusal> {
        let differs = call.length().is_some_and(|length| length != body.len() as u64);
        if self.profile.strict && differs { Err(Code::SIZE_INVALID.into()) } else { Ok(()) }
    }

    fn mount(&mut self, call: &Call<'_>, name: &RepositoryName) -> Result<Option<Response<Bytes>>, Refusal> {
        let Some(digest) = call.query.non_empty("mount") else { return Ok(None) };
        match self.profile.mount {
            Mount::Ignored => Ok(None),
            Mount::Refused(StatusCode::UNAUTHORIZED) => Err(match &self.profile.requires_auth {
                Some(auth) => {
                    let needed = auth::needed(call, &Route::Uploads(name.clone()));
                    auth::challenge(auth, call, &needed, Some("insufficient_scope"))
                }
                None => Code::UNAUTHORIZED.into(),
            }),
            Mount::Refused(StatusCode::FORBIDDEN) => Err(Code::DENIED.into()),
            Mount::Refused(status) => Err(Refusal::from(Code::UNSUPPORTED).status(status)),
            Mount::Works => {
                let Ok(digest) = digest.parse::<Digest>() else { return Ok(None) };
                let from = call.query.get("from").and_then(|from| self.repositories.get(from));
                let Some(content) = from.and_then(|from| from.blobs.get(&digest)).cloned() else { return Ok(None) };
                self.repository(name).blobs.insert(digest.clone(), content);
                self.ledger.mounted(name.as_str(), &digest);
                Ok(Some(self.created(call, name, &digest)))
            }
        }
    }

    fn open(&mut self, name: &RepositoryName) -> String {
        self.opened += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}", self.opened >> 48, self.opened);
        self.uploads.insert(id.clone(), Session::new(name.clone()));
        self.ledger.opened(&id, name.as_str());
        id
    }

    fn append(&mut self, id: &str, body: Bytes) {
        let length = body.len() as u64;
        let min = self.profile.chunk_min;
        self.ledger.received(id, length);
        if let Some(session) = self.uploads.get_mut(id) {
            session.ended |= min.is_some_and(|min| length < min);
            session.push(body);
        }
    }

    /// Makes a blob of a session, if the digest is right. The session is over either way.
    fn commit(&mut self, call: &Call<'_>, id: &str, said: Digest) -> Outcome {
        let session = self.uploads.remove(id).ok_or(Code::UPLOAD_UNKNOWN)?;
        let name = session.repository.clone();
        let found = session.digest(said.algorithm().unwrap_or(Algorithm::Sha256));
        if found != said {
            self.ledger.closed(id, Ending::Mismatched);
            self.ledger.mismatches.push(Mismatch { repository: name.to_string(), said, found });
            return Err(Code::DIGEST_INVALID.into());
        }
        let canonical = session.digest(Algorithm::Sha256);
        let content: Content = session.into_content();
        let blobs = &mut self.repository(&name).blobs;
        blobs.insert(canonical, content.clone());
        blobs.insert(said.clone(), content);
        self.ledger.committed(name.as_str(), &said);
        self.ledger.closed(id, Ending::Committed(said.clone()));
        Ok(self.created(call, &name, &said))
    }

    fn created(&self, call: &Call<'_>, name: &RepositoryName, digest: &Digest) -> Response<Bytes> {
        let reply = empty(StatusCode::CREATED).with(CONTENT_DIGEST, digest.as_str());
        reply.with(LOCATION, &format!("{}/v2/{name}/blobs/{digest}", self.host(call)))
    }

    /// What stands before the path in `Location`.
    pub(super) fn host(&self, call: &Call<'_>) -> String {
        if self.profile.location == LocationStyle::Absolute { call.base() } else { String::new() }
    }

    fn session_reply(&self, status: StatusCode, call: &Call<'_>, id: &str, session: &Session) -> Response<Bytes> {
        let reply = empty(status).with(LOCATION, &session.location(id, &self.profile, &call.base())).with(UUID, id);
        let limits = [(CHUNK_MIN, self.profile.chunk_min), (CHUNK_MAX, self.profile.chunk_max)];
        let more = limits.into_iter().filter_map(|(name, limit)| Some((name, limit?.to_string())));
        let asked = matches!(*call.method, Method::GET | Method::HEAD);
        let range = session.range(self.profile.range, asked).map(|range| (RANGE, range));
        more.chain(range).fold(reply, |reply, (name, text)| reply.with(name, &text))
    }
}
