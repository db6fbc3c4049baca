//! An upload session, and what a `Location` says about it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use sha2::Digest as _;

use super::profile::{LocationStyle, Profile, RangeDialect};
use super::query::{Query, encode};
use super::store::Content;
use crate::spec::{Algorithm, Digest, RepositoryName};

/// An upload that is neither finished nor given up.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) repository: RepositoryName,
    content: Content,
    hash: sha2::Sha256,
    last_chunk: u64,
    /// A cut took its last bytes with it; the next request is told so.
    pub(super) spoilt: bool,
    /// A chunk came that only the last one may be so small as.
    pub(super) ended: bool,
}

impl Session {
    pub(super) fn new(repository: RepositoryName) -> Self {
        Self {
            repository,
            content: Content::default(),
            hash: sha2::Sha256::new(),
            last_chunk: 0,
            spoilt: false,
            ended: false,
        }
    }

    pub(super) const fn size(&self) -> u64 {
        self.content.size()
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.last_chunk = piece.len() as u64;
        self.hash.update(&piece);
        self.content.push(piece);
    }

    /// The digest of what is there so far.
    pub(super) fn digest(&self, algorithm: Algorithm) -> Digest {
        fn over<H: sha2::Digest>(algorithm: Algorithm, pieces: &[Bytes]) -> Digest {
            let mut hash = H::new();
            pieces.iter().for_each(|piece| hash.update(piece));
            Digest::from_hash(algorithm, &hash.finalize())
        }
        match algorithm {
            Algorithm::Sha256 => Digest::from_hash(algorithm, &self.hash.clone().finalize()),
            Algorithm::Sha384 => over::<sha2::Sha384>(algorithm, self.content.pieces()),
            Algorithm::Sha512 => over::<sha2::Sha512>(algorithm, self.content.pieces()),
        }
    }

    pub(super) fn into_content(self) -> Content {
        self.content
    }

    /// `Range`, in the profile's dialect. `asked`: in answer to the question for it.
    pub(super) fn range(&self, dialect: RangeDialect, asked: bool) -> Option<String> {
        let size = self.size();
        let last = size.saturating_sub(1);
        Some(match dialect {
            RangeDialect::Inclusive => format!("0-{last}"),
            RangeDialect::MinusOne if size == 0 => "0--1".to_owned(),
            RangeDialect::MinusOne => format!("0-{last}"),
            RangeDialect::Bytes => format!("bytes=0-{last}"),
            RangeDialect::Exclusive if asked => format!("bytes=0-{size}"),
            RangeDialect::Exclusive if size == 0 => "bytes=0--1".to_owned(),
            RangeDialect::Exclusive => format!("0-{last}"),
            RangeDialect::ChunkLocal => format!("0-{}", self.last_chunk.saturating_sub(1)),
            RangeDialect::Frozen => "0-0".to_owned(),
            RangeDialect::Absent => return None,
        })
    }

    /// Where to go on with this upload.
    pub(super) fn location(&self, id: &str, profile: &Profile, base: &str) -> String {
        let host = if profile.location == LocationStyle::Absolute { base } else { "" };
        let path = format!("{host}/v2/{}/blobs/uploads/{id}", self.repository);
        if profile.location_state {
            format!("{path}?{}", query(&self.repository, id, self.size(), profile.strict))
        } else {
            path
        }
    }
}

/// The query of a `Location`. Who insists on it verbatim puts in something that many would tidy up.
fn query(repository: &RepositoryName, id: &str, offset: u64, odd: bool) -> String {
    let state = encode(&state(repository, id, offset));
    if odd { format!("_state={state}&x=") } else { format!("_state={state}") }
}

/// What distribution makes with a secret: nobody but the registry can, and each offset has its own.
fn state(repository: &RepositoryName, id: &str, offset: u64) -> String {
    let facts = format!("{{\"Name\":\"{repository}\",\"UUID\":\"{id}\",\"Offset\":{offset}}}");
    let seal = Digest::of(format!("asecretforlocaldevelopment {facts}").as_bytes());
    URL_SAFE.encode(format!("{}{facts}", seal.encoded()))
}

/// The offset that a request's query says, if the query is one that was handed out for this upload.
pub(super) fn offset(query: &Query, repository: &RepositoryName, id: &str, strict: bool) -> Option<u64> {
    let told = query.get("_state")?;
    let text = String::from_utf8(URL_SAFE.decode(told).ok()?).ok()?;
    let (_, digits) = text.rsplit_once("\"Offset\":")?;
    let offset = digits.strip_suffix('}')?.parse().ok()?;
    if told != state(repository, id, offset) {
        return None;
    }
    let ours = self::query(repository, id, offset, strict);
    let verbatim = query.raw().strip_prefix(&ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('&'));
    (verbatim || !strict).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_holds_the_offset_and_can_not_be_made_up() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let told = query(&name, "u", 7, false);
        let read = |raw: &str, id: &str| offset(&Query::parse(raw), &name, id, false);
        assert_eq!(read(&told, "u"), Some(7));
        assert_eq!(read(&format!("digest=x&{told}"), "u"), Some(7));
        assert_eq!(read(&told, "other"), None);
        assert_eq!(read("", "u"), None);
        assert_eq!(read("_state=AAAA", "u"), None);
        assert_ne!(told, query(&name, "u", 8, false));
    }

    #[test]
    fn strictly_it_comes_back_verbatim() {
        let name: RepositoryName = "a".parse().unwrap();
        let told = query(&name, "u", 0, true);
        let read = |raw: &str| offset(&Query::parse(raw), &name, "u", true);
        assert!(told.ends_with("&x="));
        assert_eq!(read(&told), Some(0));
        assert_eq!(read(&format!("{told}&digest=sha256:ab")), Some(0));
        assert_eq!(read(&format!("digest=sha256:ab&{told}")), None);
        assert_eq!(read(told.trim_end_matches('=')), None);
        assert_eq!(read(&told.replace("%3D", "=")), if told.contains("%3D") { None } else { Some(0) });
    }

    #[test]
    fn dialects() {
        let mut session = Session::new("a".parse().unwrap());
        let read = |session: &Session| {
            use RangeDialect as R;
            assert_eq!(session.range(R::Exclusive, true), Some(format!("bytes=0-{}", session.size())));
            [R::Inclusive, R::MinusOne, R::Bytes, R::Exclusive, R::ChunkLocal, R::Frozen, R::Absent]
                .map(|dialect| session.range(dialect, false).unwrap_or_default())
        };
        assert_eq!(read(&session), ["0-0", "0--1", "bytes=0-0", "bytes=0--1", "0-0", "0-0", ""]);
        session.push(Bytes::from_static(b"abcd"));
        session.push(Bytes::from_static(b"ef"));
        assert_eq!(read(&session), ["0-5", "0-5", "bytes=0-5", "0-5", "0-1", "0-0", ""]);
        assert_eq!(session.digest(Algorithm::Sha256), Digest::of(b"abcdef"));
        assert_eq!(session.digest(Algorithm::Sha512), Digest::compute(Algorithm::Sha512, b"abcdef"));
    }
}
