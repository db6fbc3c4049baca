//! `/v2/<name>/blobs/<digest>`, and the storage that blobs may be redirected to.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, LOCATION,
    RANGE,
};
use http::{Method, StatusCode, Uri};
use serde_json::Value;

use super::call::Call;
use super::profile::{Profile, Support};
use super::reply::{CONTENT_DIGEST, Code, Outcome, Refusal, With as _, empty, with_body};
use super::{Registry, query};
use crate::spec::{Digest, RepositoryName};

/// For how many seconds a redirect to the storage is good.
const SIGNED_FOR: u64 = 300;

impl Registry {
    pub(super) fn blob_endpoint(&mut self, call: &Call<'_>, name: &RepositoryName, digest: &Digest) -> Outcome {
        let unknown = || Refusal::from(Code::BLOB_UNKNOWN).detail(digest.to_string());
        match *call.method {
            Method::GET | Method::HEAD => {
                let blob = self.repositories.get_mut(name.as_str()).and_then(|found| found.blobs.get_mut(digest));
                let blob = blob.ok_or_else(unknown)?;
                if let Some(base) = &self.profile.redirect_blobs {
                    let until = self.now.as_secs() + SIGNED_FOR;
                    let location = format!(
                        "{}/{digest}?expires={until}&signature={}",
                        base.trim_end_matches('/'),
                        sign(digest, until)
                    );
                    return Ok(empty(StatusCode::TEMPORARY_REDIRECT).with(LOCATION, &location));
                }
                if !digest.is_verifiable() {
                    return Err(Refusal::from(Code::DIGEST_INVALID));
                }
                let reply = serve(call, digest, blob.join(), &self.profile)?;
                Ok(reply.with(CACHE_CONTROL, "max-age=31536000").with(CONTENT_DIGEST, digest.as_str()))
            }
            Method::DELETE => {
                if let Support::No(status) = self.profile.delete {
                    return Err(Refusal::from(Code::UNSUPPORTED).status(status));
                }
                let found = self.repositories.get_mut(name.as_str()).ok_or_else(unknown)?;
                found.blobs.remove(digest).ok_or_else(unknown)?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            _ => Err(Refusal::no_such_method()),
        }
    }

    /// If the path is one of the storage's: what the storage answers.
    pub(super) fn storage(&mut self, call: &Call<'_>, path: &str) -> Option<Outcome> {
        let base = self.profile.redirect_blobs.as_ref()?.parse::<Uri>().ok()?;
        let digest = path.strip_prefix(base.path().trim_end_matches('/'))?.strip_prefix('/')?.parse::<Digest>().ok()?;
        Some(self.stored(call, &digest))
    }

    fn stored(&mut self, call: &Call<'_>, digest: &Digest) -> Outcome {
        if call.headers.contains_key(AUTHORIZATION) {
            self.ledger.credentials_to_storage += 1;
            let xml = "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>";
            return Err(Refusal::storage(StatusCode::BAD_REQUEST, xml));
        }
        if !matches!(*call.method, Method::GET | Method::HEAD) {
            return Err(Refusal::storage(
                StatusCode::METHOD_NOT_ALLOWED,
                "<Error><Code>MethodNotAllowed</Code></Error>",
            ));
        }
        if *call.method == Method::HEAD && self.profile.signs_for_get {
            let xml = "<Error><Code>SignatureDoesNotMatch</Code></Error>";
            return Err(Refusal::storage(StatusCode::FORBIDDEN, xml));
        }
        let until = call.query.get("expires").and_then(|until| until.parse().ok()).unwrap_or_default();
        if call.query.get("signature") != Some(&sign(digest, until)) || self.now.as_secs() >= until {
            let xml = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
            return Err(Refusal::storage(StatusCode::FORBIDDEN, xml));
        }
        match self.repositories.values_mut().find_map(|repository| repository.blobs.get_mut(digest)) {
            Some(blob) => serve(call, digest, blob.join(), &self.profile),
            None => Err(Refusal::storage(StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>")),
        }
    }
}

fn sign(digest: &Digest, until: u64) -> String {
    query::encode(Digest::of(format!("{digest} {until}").as_bytes()).short())
}

/// Bytes, or the part of them that is asked for, as Go's `http.ServeContent` does.
fn serve(call: &Call<'_>, digest: &Digest, bytes: Bytes, profile: &Profile) -> Outcome {
    let etag = format!("\"{digest}\"");
    if call.header(&IF_NONE_MATCH) == Some(&etag) {
        return Ok(empty(StatusCode::NOT_MODIFIED).with(ETAG, &etag));
    }
    let size = bytes.len() as u64;
    let most = profile.range_max.unwrap_or(u64::MAX).saturating_sub(1);
    let current = profile.serves_ranges && call.header(&IF_RANGE).is_none_or(|tag| tag == etag);
    let reply = match call.header(&RANGE).filter(|_| current && size > 0).map(|range| part(range, size)) {
        None | Some(Part::Whole) => with_body(StatusCode::OK, bytes),
        Some(Part::Bytes { first, last }) => {
            let last = last.min(first.saturating_add(most));
            let index = |at: u64| usize::try_from(at).expect("below the length of bytes in memory");
            let told = format!("bytes {first}-{last}/{size}");
            with_body(StatusCode::PARTIAL_CONTENT, bytes.slice(index(first)..=index(last))).with(CONTENT_RANGE, &told)
        }
        Some(Part::Outside) => {
            let refusal = Refusal::text(StatusCode::RANGE_NOT_SATISFIABLE, "invalid range: failed to overlap\n");
            return Err(refusal.header(CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    Ok(reply.with(CONTENT_TYPE, "application/octet-stream").with(ETAG, &etag).with(ACCEPT_RANGES, "bytes"))
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Bytes { first: u64, last: u64 },
    Outside,
}

/// One range of bytes. Several at once are answered with everything, which is allowed.
fn part(range: &str, size: u64) -> Part {
    let Some(spec) = range.strip_prefix("bytes=").map(str::trim).filter(|spec| !spec.contains(',')) else {
        return Part::Whole;
    };
    let end = size.saturating_sub(1);
    let read = |text: &str| text.trim().parse::<u64>().ok();
    match spec.split_once('-') {
        Some(("", count)) => match read(count) {
            Some(0) | None => Part::Outside,
            Some(count) => Part::Bytes { first: size.saturating_sub(count), last: end },
        },
        Some((first, last)) => match (read(first), read(last)) {
            (Some(first), _) if first >= size => Part::Outside,
            (Some(first), Some(last)) if first <= last => Part::Bytes { first, last: last.min(end) },
            (Some(first), None) if last.trim().is_empty() => Part::Bytes { first, last: end },
            _ => Part::Outside,
        },
        None => Part::Outside,
    }
}

/// What a blob's digest is told as.
pub(super) fn digest_in_query(text: Option<&str>) -> Result<Digest, Refusal> {
    let refusal = |detail: &str| Refusal::from(Code::DIGEST_INVALID).detail(Value::from(detail));
    let digest: Digest =
        text.ok_or_else(|| refusal("digest missing"))?.parse().map_err(|_| refusal("digest parsing failed"))?;
    if digest.is_verifiable() { Ok(digest) } else { Err(refusal("digest algorithm unsupported")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let bytes = |first, last| Part::Bytes { first, last };
        assert_eq!(part("bytes=2-3", 10), bytes(2, 3));
        assert_eq!(part("bytes=2-", 10), bytes(2, 9));
        assert_eq!(part("bytes=2-99", 10), bytes(2, 9));
        assert_eq!(part("bytes=-3", 10), bytes(7, 9));
        assert_eq!(part("bytes=-30", 10), bytes(0, 9));
        for outside in
            ["bytes=10-", "bytes=5-2", "bytes=-0", "bytes=", "bytes=x-y", "bytes=1-x", "bytes=99999999999999999999-"]
        {
            assert_eq!(part(outside, 10), Part::Outside, "{outside}");
        }
        assert_eq!(part("bytes=0-1,3-4", 10), Part::Whole);
        assert_eq!(part("items=0-1", 10), Part::Whole);
    }
}
