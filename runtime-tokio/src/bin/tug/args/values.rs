//! Numbers, and what else is written in a form of its own.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use registry_tokio::proto::UploadPolicy;
use registry_tokio::proto::spec::Registry;

/// As good as for ever, and yet a time that clocks can show.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => {
            Duration::try_from_secs_f64(seconds).map(|limit| limit.min(LONGEST)).map_err(|why| why.to_string())
        }
        _ => Err("a number of seconds above 0".to_owned()),
    }
}

/// A file to write. `-` would be one of that name: who writes it means standard output, and is told what to do `instead`.
pub(super) fn file(instead: &'static str) -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(move |path| if path.as_os_str() == "-" { Err(instead) } else { Ok(path) })
}

/// One or more.
pub(super) fn count<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "a whole number above 0".to_owned())
}

/// An address to listen at.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "ADDRESS:PORT, such as 127.0.0.1:5000 or [::1]:5000".to_owned())
}

pub(super) fn mirror(text: &str) -> Result<(Registry, Registry), String> {
    let (registry, mirror) = text.split_once('=').ok_or("REGISTRY=MIRROR, as in `docker.io=mirror.corp:5000`")?;
    let read = |host: &str| host.parse::<Registry>().map_err(|why| format!("`{host}`: {why}"));
    Ok((read(registry)?, read(mirror)?))
}

pub(super) fn chunk_size(text: &str) -> Result<UploadPolicy, String> {
    if text == "auto" {
        return Ok(UploadPolicy::Auto);
    }
    size(text).map(UploadPolicy::Chunked).map_err(|why| format!("`auto`, or {why}"))
}

pub(super) fn size(text: &str) -> Result<NonZeroU64, String> {
    let (number, shift) = match text.strip_suffix("iB").or_else(|| text.strip_suffix('B')).unwrap_or(text) {
        text if text.ends_with(['k', 'K']) => (&text[..text.len() - 1], 10),
        text if text.ends_with(['m', 'M']) => (&text[..text.len() - 1], 20),
        text if text.ends_with(['g', 'G']) => (&text[..text.len() - 1], 30),
        text => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).and_then(NonZeroU64::new);
    bytes.ok_or_else(|| "a number of bytes such as 5242880 or 5M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let chunks = |bytes| Ok(UploadPolicy::Chunked(NonZeroU64::new(bytes).expect("not 0")));
        assert_eq!(chunk_size("auto"), Ok(UploadPolicy::Auto));
        assert_eq!(chunk_size("5242880"), chunks(5 << 20));
        assert_eq!(chunk_size("5M"), chunks(5 << 20));
        assert_eq!(chunk_size("64KiB"), chunks(64 << 10));
        assert_eq!(chunk_size("1g"), chunks(1 << 30));
        for wrong in ["", "0", "-1", "5X", "M", "99999999999999999999", "99999999999G"] {
            assert!(chunk_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("1e18"), Ok(LONGEST));
        for wrong in ["", "0", "-1", "nan", "inf", "1e300", "x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
