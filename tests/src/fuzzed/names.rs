//! Names: references and their parts, digests, media types.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use registry_proto::spec::{
    Algorithm, Digest, MediaType, Origin, Platform, Reference, Registry, Repository, RepositoryName, Tag, TagOrDigest,
};

use super::{is_printable, line};

/// A value, if the text is one; and its own text has to be one as well, of the same value.
fn round<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let again = value.to_string();
    assert!(is_printable(&again), "{again:?}");
    assert_eq!(again.parse::<T>().ok().as_ref(), Some(&value), "{text:?} is written as {again:?}");
    Some(value)
}

/// References and what they are made of.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(reference) = round::<Reference>(text) {
        let (registry, name) = (reference.repository().registry(), reference.repository().name());
        assert!((1..=255).contains(&name.as_str().len()));
        assert!(reference.tag().is_none_or(|tag| tag.as_str().len() <= 128));
        assert!(reference.digest().is_none_or(Digest::is_verifiable));
        assert!(!registry.as_str().contains(['/', '@', '?', '#', ' ', '\\']));
        assert_eq!(reference.familiar().parse().as_ref(), Ok(&reference), "{}", reference.familiar());
        let tagged = reference.clone().with_default_tag();
        assert_eq!(tagged.target(), reference.target());
        assert_eq!(tagged.target().to_string().parse().as_ref(), Ok(&tagged.target()));
    }
    if let Some(registry) = round::<Registry>(text) {
        // Where requests go is what the name says.
        if let Some(origin) = Origin::new(true, registry.wire_host()) {
            let host = if registry.as_str() == "docker.io" { "registry-1.docker.io" } else { registry.host() };
            assert!(origin.host().eq_ignore_ascii_case(host), "{registry} is at {origin}");
            assert_eq!(origin.at("/v2/").as_ref().and_then(Origin::of), Some(origin));
        }
    }
    round::<Repository>(text);
    if let Some(name) = round::<RepositoryName>(text) {
        assert!(name.as_str().len() <= 255 && !name.as_str().contains("..") && !name.as_str().contains("//"));
    }
    round::<Tag>(text);
    round::<TagOrDigest>(text);
    if let Some(platform) = round::<Platform>(text) {
        assert_eq!(platform.normalized(), platform);
        let suits = platform.suits(&platform);
        assert_eq!(suits, (!platform.is_unknown()).then_some(0));
    }
}

/// Digests, and on the next line a media type.
pub fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = line(data);
    for text in [text, std::str::from_utf8(first).unwrap_or_default()] {
        let Some(digest) = round::<Digest>(text) else { continue };
        assert!(digest.as_str().len() <= 512);
        let length = digest.algorithm().map(|algorithm| match algorithm {
            Algorithm::Sha256 => 64,
            Algorithm::Sha384 => 96,
            Algorithm::Sha512 => 128,
        });
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        assert!(length.is_none_or(|length| digest.encoded().len() == length && digest.encoded().bytes().all(hex)));
        // It becomes part of paths and URLs as it is.
        assert!(!digest.as_str().contains(['/', '\\', '%', '?', '#', ' ']) && !digest.as_str().contains(".."));
        assert_eq!(serde_json::from_value::<Digest>(digest.as_str().into()).ok().as_ref(), Some(&digest));
        let _ = (digest.short(), Tag::of_referrers(&digest));
    }
    if let Ok(second) = std::str::from_utf8(second) {
        let media_type = MediaType::new(second);
        assert_eq!(MediaType::new(media_type.as_str()), media_type);
        assert!(media_type.as_str().len() <= 255 && media_type.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    assert_eq!(Digest::of(data).as_str().parse(), Ok(Digest::of(data)));
}
