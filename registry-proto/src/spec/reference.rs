//! References, as people write them and as Docker reads them (PROTOCOL §3).

use std::fmt;
use std::str::FromStr;

use crate::spec::{Digest, DigestError, Registry, Repository, RepositoryName, Tag, TagOrDigest};

/// `[registry/]repository[:tag][@digest]`, normalised as Docker does: `ubuntu` is `docker.io/library/ubuntu`.
///
/// ```
/// use registry_proto::spec::Reference;
///
/// let reference: Reference = "localhost:5000/app:v1".parse()?;
/// assert_eq!(reference.repository().registry().as_str(), "localhost:5000");
/// let short: Reference = "ubuntu".parse()?;
/// assert_eq!(short.to_string(), "docker.io/library/ubuntu");
/// assert_eq!(short.familiar(), "ubuntu");
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It names no repository.
    #[error("a reference needs a repository")]
    Empty,
    /// Its host is not one.
    #[error("the host is not valid: letters, digits, dots and dashes, or an IPv6 address in brackets, and a port")]
    Host,
    /// Its repository has capital letters.
    #[error("a repository's name is in lower case")]
    Uppercase,
    /// Its repository's name is not one.
    #[error("a repository's name is made of a-z and 0-9, separated by one of `.`, `_`, `__`, `-` and `/`")]
    Path,
    /// Its repository's name is too long.
    #[error("a repository's name has at most 255 characters")]
    TooLong,
    /// Its tag is not one.
    #[error("a tag has up to 128 of A-Z, a-z, 0-9, `_`, `.` and `-`, and starts with none of the last two")]
    Tag,
    /// Its digest is not one that can be verified.
    #[error("the digest is not valid: {0}")]
    Digest(#[from] DigestError),
    /// Its digest uses an algorithm that is unknown here.
    #[error("the digest's algorithm is unknown; sha256, sha384 and sha512 can be verified")]
    Algorithm,
    /// It looks like the identifier of a local image.
    #[error("64 hexadecimal digits are an image's identifier, not a repository")]
    Identifier,
    /// It has a tag or a digest where a whole repository is wanted.
    #[error("a repository is wanted, without tag or digest")]
    NotWhole,
}

impl Reference {
    /// A whole repository, without tag or digest.
    pub const fn new(repository: Repository) -> Self {
        Self { repository, tag: None, digest: None }
    }

    /// Which repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if it was written. Beside a digest it is only a remark.
    pub const fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if it was written.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask a registry for: the digest, else the tag, else `latest`.
    pub fn target(&self) -> TagOrDigest {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest.clone()),
            (None, Some(tag)) => TagOrDigest::Tag(tag.clone()),
            (None, None) => TagOrDigest::Tag(Tag::latest()),
        }
    }

    /// What a repository has by this tag or digest.
    pub(crate) fn by(repository: Repository, by: TagOrDigest) -> Self {
        let bare = Self::new(repository);
        match by {
            TagOrDigest::Tag(tag) => bare.with_tag(tag),
            TagOrDigest::Digest(digest) => bare.with_digest(digest),
        }
    }

    /// With this tag.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tag = Some(tag);
        self
    }

    /// With this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// With `latest`, if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(self) -> Self {
        if self.tag.is_none() && self.digest.is_none() { self.with_tag(Tag::latest()) } else { self }
    }

    /// As people write it: without `docker.io/` and `library/`, unless that would mean something else. Docker Hub's
    /// `quay.io/app` is not Quay's.
    pub fn familiar(&self) -> String {
        if self.repository.registry() == &Registry::docker_hub() {
            let short = self.rest(self.repository.familiar_path().to_owned());
            if short.parse().as_ref() == Ok(self) {
                return short;
            }
        }
        self.to_string()
    }

    fn rest(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

/// As people write it: `debian` is `docker.io/library/debian`.
impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(ReferenceError::NotWhole);
        }
        Ok(reference.repository)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier);
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let digest: Digest = digest.parse()?;
                if !digest.is_verifiable() {
                    return Err(ReferenceError::Algorithm);
                }
                (name, Some(digest))
            }
        };
        // The first part is a host if it could be nothing else: a repository's name has no colon and no capital letters, and
        // one with a dot is taken for a host, too.
        let (host, rest) = match name.split_once('/') {
            Some((first, rest))
                if first == "localhost"
                    || first.contains(['.', ':'])
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (Some(first), rest)
            }
            _ => (None, name),
        };
        let registry = match host {
            None | Some("docker.io" | "index.docker.io") => Registry::docker_hub(),
            Some(host) => host.parse()?,
        };
        let (path, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((path, tag)) => (path, Some(tag.parse()?)),
        };
        let path = if registry == Registry::docker_hub() && !path.contains('/') && !path.is_empty() {
            format!("library/{path}").parse()?
        } else {
            path.parse::<RepositoryName>()?
        };
        Ok(Self { repository: Repository::new(registry, path), tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rest(self.repository.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Result<String, ReferenceError> {
        let it: Reference = text.parse()?;
        let tag = it.tag().map_or("–", Tag::as_str);
        let digest = it.digest().map_or("–", Digest::as_str);
        Ok(format!("{}|{}|{tag}|{digest}", it.repository().registry(), it.repository().name()))
    }

    #[test]
    fn r1_to_r38() {
        let h = "a".repeat(64);
        for (text, expected) in [
            ("ubuntu", "docker.io|library/ubuntu|–|–"),
            ("ubuntu:22.04", "docker.io|library/ubuntu|22.04|–"),
            ("jess/t", "docker.io|jess/t|–|–"),
            ("docker.io/ubuntu", "docker.io|library/ubuntu|–|–"),
            ("index.docker.io/debian", "docker.io|library/debian|–|–"),
            ("docker.io/library/foo/bar", "docker.io|library/foo/bar|–|–"),
            ("registry-1.docker.io/library/x", "registry-1.docker.io|library/x|–|–"),
            ("localhost/foo", "localhost|foo|–|–"),
            ("localhost:5000/foo", "localhost:5000|foo|–|–"),
            ("localhost", "docker.io|library/localhost|–|–"),
            ("localhost:5000", "docker.io|library/localhost|5000|–"),
            ("host/foo", "docker.io|host/foo|–|–"),
            ("LOCALDOMAIN/debian", "LOCALDOMAIN|debian|–|–"),
            ("Docker/docker", "Docker|docker|–|–"),
            ("registry.example.com:8080/a/b/c:v1", "registry.example.com:8080|a/b/c|v1|–"),
            ("test.com:5000", "docker.io|library/test.com|5000|–"),
            ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000|repo|5050|–"),
            ("192.168.1.1", "docker.io|library/192.168.1.1|–|–"),
            ("[::1]:5000/repo", "[::1]:5000|repo|–|–"),
            ("[2001:db8::1]/repo:tag", "[2001:db8::1]|repo|tag|–"),
            ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com|myimage|xn--n3h.com|–"),
            ("foo/foo_bar.com:8080", "docker.io|foo/foo_bar.com|8080|–"),
            ("dock__er/docker", "docker.io|dock__er/docker|–|–"),
            ("docker---rules/docker", "docker.io|docker---rules/docker|–|–"),
            (&format!("docker.io/{h}"), &format!("docker.io|library/{h}|–|–")),
            (&"a".repeat(63), &format!("docker.io|library/{}|–|–", "a".repeat(63))),
            (&format!("a/b@sha256:{h}"), &format!("docker.io|a/b|–|sha256:{h}")),
            (&format!("a/b:v1@sha256:{h}"), &format!("docker.io|a/b|v1|sha256:{h}")),
            (&format!("a/b@sha512:{h}{h}"), &format!("docker.io|a/b|–|sha512:{h}{h}")),
            (&format!("a@sha384:{}", "c".repeat(96)), &format!("docker.io|library/a|–|sha384:{}", "c".repeat(96))),
            ("a:_t", "docker.io|library/a|_t|–"),
            ("a:V1.0-rc_1", "docker.io|library/a|V1.0-rc_1|–"),
            (&format!("a:{}", "x".repeat(128)), &format!("docker.io|library/a|{}|–", "x".repeat(128))),
            ("host:99999/x", "host:99999|x|–|–"),
            ("X:80/y", "X:80|y|–|–"),
            (&format!("reg.io/{}", "a".repeat(255)), &format!("reg.io|{}|–|–", "a".repeat(255))),
            (&"c".repeat(247), &format!("docker.io|library/{}|–|–", "c".repeat(247))),
            ("docker.io", "docker.io|library/docker.io|–|–"),
        ] {
            assert_eq!(parts(text).as_deref(), Ok(expected), "{text}");
        }
        // R23: where Docker ends up with an empty host, we say that it is not valid.
        assert_eq!(parts("foo_bar.com/baz"), Err(ReferenceError::Host));
    }

    #[test]
    fn n1_to_n21() {
        let h = "a".repeat(64);
        let long = [
            h.clone(),
            format!("a@sha256:{}", "a".repeat(63)),
            format!("a@sha256:{}", "A".repeat(64)),
            format!("a@md5:{}", "a".repeat(32)),
            format!("a@sha256:{}", "a".repeat(31)),
            format!("a@sha256:{}", "g".repeat(64)),
            format!("a:{}", "x".repeat(129)),
            format!("reg.io/{}", "a".repeat(256)),
            "c".repeat(248),
            format!("a@sha256:{h}@sha256:{h}"),
            format!("a@sha256+b64:{}", "a".repeat(40)),
            format!("@sha256:{h}"),
        ];
        let short = [
            "",
            ":tag",
            "Ubuntu",
            "a/B",
            "reg.io:5000/A/b:t",
            "reg.io/A:_x",
            "a//b",
            "a/",
            "/a",
            "docker.io/",
            "a..b/c",
            "dock_.er",
            "dock-.er",
            "-a",
            "a-",
            "_a/b",
            "a___b",
            "____/____",
            "a:.x",
            "a:-x",
            "a:b:c",
            "a:t@",
            "a@b",
            "a:é",
            "a b",
            "a\nb",
            "a\n",
            "aa/asdf$$^/aa",
            "a%2fb",
            "a?x=1",
            "a#f",
            "user@reg.io/x",
            "https://github.com/docker/docker",
            "[fe80::1%eth0]:5000/repo",
            "[::ffff:192.0.2.1]:5000/r",
            "[2001:db8::1]",
            "fc00::1:5000/debian",
            "host:port/x",
            "host:/x",
            "my-.host.com/x",
            "a.b./c",
            "a./c",
            ".a/c",
            "../etc/passwd",
            "..",
            "a/../b",
        ];
        for text in long.iter().map(String::as_str).chain(short) {
            assert!(parts(text).is_err(), "{text:?}: {:?}", parts(text));
        }
    }

    #[test]
    fn short_names_mean_the_same() {
        let hex = "a".repeat(64);
        for (text, expected) in [
            ("docker.io/library/app:v1", "app:v1"),
            ("docker.io/team/app", "team/app"),
            ("docker.io/quay.io/app:v1", "docker.io/quay.io/app:v1"),
            ("docker.io/localhost/app", "docker.io/localhost/app"),
            (&format!("docker.io/{hex}"), &format!("docker.io/library/{hex}")),
            ("quay.io/app", "quay.io/app"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.familiar(), expected);
            assert_eq!(expected.parse(), Ok(reference));
        }
    }

    /// Whatever a URL could be made to mean by a name.
    #[test]
    fn a26_a27_names_that_would_be_more_than_names() {
        for host in [
            "user:pass@r.example",
            "user@r.example",
            "r.example\\@evil.example",
            "r.example#evil.example",
            "r.example?x=",
            "r.example%2f",
            "r.example\r\nHost: evil.example",
            "http://r.example",
            "r\u{e9}gistry.example",
            "r.ex\u{430}mple",
            "\u{ff52}.example",
            "r.example\u{2024}com",
        ] {
            assert!(format!("{host}/n:v1").parse::<Reference>().is_err(), "{host}");
            assert!(host.parse::<Registry>().is_err(), "{host}");
        }
        for rest in [
            "n/../../catalog:v1",
            "n/./x:v1",
            "n//x:v1",
            "/n:v1",
            "n%2fx:v1",
            "n?x=y:v1",
            "n#x:v1",
            "n x:v1",
            "n\r\nX-Evil: 1:v1",
            "n\0:v1",
            "n:v1?x=y",
            "n:v1#x",
            "n:../v1",
            "n:v1/../x",
            "n:v1\r\n",
            "n:",
            "n@sha256:../../x",
            "\u{1b}[31m:v1",
        ] {
            assert!(format!("r.example/{rest}").parse::<Reference>().is_err(), "{rest}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_parses_again_and_is_safe_in_a_url(text in "[a-cA-C0-1./:@_-]{1,24}|\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let written = reference.to_string();
                prop_assert_eq!(written.parse::<Reference>(), Ok(reference.clone()));
                prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference));
                prop_assert!(!written.contains(['\r', '\n', ' ', '%', '?', '#']) && !written.contains(".."));
            }
        }
    }
}
