//! Headers of replies.

use std::time::Duration;

use http::Uri;
use registry_proto::spec::{
    AckedOffset, Challenge, ContentRange, Origin, ScopeSet, UploadRange, acknowledged, next_link, parse_warnings,
    redacted, resolve, retry_after, same_origin, status_offset,
};

use super::{is_printable, line};

/// `WWW-Authenticate`, a field on each line; and the scopes in it.
pub fn challenge(data: &[u8]) {
    let fields: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let all = Challenge::parse_all(fields.iter().copied());
    assert!(all.len() <= 16, "{} challenges", all.len());
    let is_word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"\"(),/:;<=>?@[\\]{}".contains(&b))
    };
    let mut length = 0;
    for challenge in &all {
        assert!(is_word(challenge.scheme()), "{challenge:?}");
        assert!(challenge.token68().is_none() || challenge.params().is_empty(), "{challenge:?}");
        assert!(challenge.params().len() <= 64);
        for (name, value) in challenge.params() {
            assert!(is_word(name), "{challenge:?}");
            assert!(challenge.param(name).is_some());
            length += name.len() + value.len();
            scopes(value);
        }
    }
    // What is no UTF-8 becomes a sign of three bytes.
    assert!(length <= 3 * data.len());
    let canonical = all.iter().map(written).collect::<Vec<_>>().join(", ");
    if canonical.len() <= 8 << 10 {
        assert_eq!(Challenge::parse_all([canonical.as_bytes()]), all, "{canonical}");
    }
}

/// A challenge as a server would write it.
fn written(challenge: &Challenge) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = challenge.scheme().to_owned();
    if let Some(token) = challenge.token68() {
        text = format!("{text} {token}");
    }
    let params: Vec<String> =
        challenge.params().iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
    if params.is_empty() { text } else { format!("{text} {}", params.join(", ")) }
}

fn scopes(text: &str) {
    let set = ScopeSet::parse(text);
    assert!(set.iter().count() <= 64);
    assert_eq!(ScopeSet::parse(&set.to_string()), set);
    assert!(set.contains(&set) && set.union(&set) == set);
    // Whatever a challenge says, nothing is asked for that is of another repository, or more than was wanted anyway (A29).
    let wanted = ScopeSet::pull(&"library/app".parse().expect("it is a name"));
    for scope in wanted.same_resources(&set).iter() {
        assert!(scope.to_string().starts_with("repository:library/app:"), "{scope}");
    }
    for scope in wanted.same_actions(&set).iter() {
        let text = scope.to_string();
        assert!(text.starts_with("repository:") && text.ends_with(":pull"), "{scope}");
    }
}

/// The URL that was asked for, and on the next line a `Link` or `Location`, and warnings.
pub fn link(data: &[u8]) {
    let (base, field) = line(data);
    let base = std::str::from_utf8(base).ok().and_then(|base| base.parse::<Uri>().ok());
    // (We ask for nothing that doesn't look as we would write it.)
    let base = base.filter(|base| resolve(base, &base.to_string()).as_ref() == Ok(base));
    let base = base.unwrap_or_else(|| Uri::from_static("https://r.example/v2/n/blobs/uploads/"));
    let field = String::from_utf8_lossy(field);
    if let Some(target) = next_link(&field) {
        assert!(field.contains(target));
        location(&base, target);
    }
    location(&base, &field);
    for text in parse_warnings(&field) {
        assert!(is_printable(&text) && !text.is_empty() && text.chars().count() <= 501, "{text:?}");
    }
}

fn location(base: &Uri, target: &str) {
    let home = Origin::of(base).expect("it was looked at before");
    if let Ok(url) = resolve(base, target) {
        let origin = Origin::of(&url).expect("where it leads has an origin");
        let text = url.to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
        // Whoever reads the URL otherwise than we do must not come to another host.
        let after = text.split_once("://").expect("it is absolute").1;
        let authority = after.split(['/', '?', '#', '\\']).next().unwrap_or_default().to_ascii_lowercase();
        let port = format!("{}:{}", origin.host(), origin.port());
        assert!(
            authority == origin.host() || authority == port || authority_with_port(&authority) == Some(port),
            "{text} is at {origin}"
        );
        assert_eq!(resolve(base, &text).as_ref(), Ok(&url));
        let shown = redacted(&url);
        assert!(shown.starts_with(&origin.to_string()) && shown.split_once('?').is_none_or(|(_, rest)| rest == "…"));
    }
    if let Ok(url) = same_origin(base, target) {
        assert_eq!(Origin::of(&url), Some(home), "{target} leads away");
        assert_eq!(same_origin(base, &url.to_string()), Ok(url));
    }
}

/// Host and port with the port as a number is written.
fn authority_with_port(authority: &str) -> Option<String> {
    let (host, port) = authority.rsplit_once(':')?;
    Some(format!("{host}:{}", port.parse::<u16>().ok()?))
}

/// What was sent (where it starts, how much), and on the next lines a `Range`, a `Content-Range`, a `Retry-After` and a `Date`.
pub fn range(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let sent = next();
    let mut numbers = sent.split(' ').map(|number| number.parse::<u64>().unwrap_or_default());
    let (start, length) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let header = next();
    // (No blob goes on beyond what can be counted.)
    let end = start.saturating_add(length);
    let length = end - start;
    match acknowledged(start, length, Some(header)) {
        AckedOffset::At(at) => assert!(length == 0 || at > start && at <= end, "{at} of {start}+{length}"),
        AckedOffset::Forward(at) => assert!(at > end, "{at} of {start}+{length}"),
        AckedOffset::Unknown => {}
    }
    if let Some(known) = status_offset(Some(header), Some(start)) {
        assert!(status_offset(Some(header), None).is_none_or(|at| at == known));
    }
    if let Some(range) = UploadRange::new(start, length) {
        let written = range.to_string();
        if start == 0 && length > 1 {
            assert_eq!(acknowledged(start, length, Some(&written)), AckedOffset::At(length));
            assert_eq!(status_offset(Some(&written), None), Some(length));
        }
    }
    if let Some(range) = ContentRange::parse(next()) {
        assert!(range.first <= range.last && range.total.is_none_or(|total| range.last < total), "{range:?}");
        let total = range.total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        assert_eq!(ContentRange::parse(&format!("bytes {}-{}/{total}", range.first, range.last)), Some(range));
    }
    let (wish, date) = (next(), next());
    if let Some(seconds) = retry_after(wish, None) {
        assert_eq!(Some(seconds), retry_after(&seconds.as_secs().to_string(), Some(date)));
    }
    if retry_after(date, Some(date)).is_some_and(|_| !date.trim().bytes().all(|byte| byte.is_ascii_digit())) {
        assert_eq!(retry_after(date, Some(date)), Some(Duration::ZERO));
    }
}
