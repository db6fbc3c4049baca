//! `Link` (RFC 8288): where a list goes on.

/// The target of the link whose relation is `next`, as written; to be resolved with [`same_origin`](super::same_origin).
///
/// Lenient where registries are: without angle brackets (Cloudflare's), with unquoted relations, among other links.
///
/// ```
/// use registry_proto::spec::next_link;
///
/// assert_eq!(next_link(r#"</v2/n/tags/list?last=b&n=2>; rel="next""#), Some("/v2/n/tags/list?last=b&n=2"));
/// ```
pub fn next_link(field: &str) -> Option<&str> {
    let mut rest = field;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let (target, after) = match rest.strip_prefix('<') {
            Some(inside) => inside.split_once('>')?,
            None => rest.split_at(rest.find([';', ',']).unwrap_or(rest.len())),
        };
        let end = end_of_params(after);
        if after[..end].split(';').any(is_next) {
            return Some(target.trim());
        }
        rest = &after[end..];
    }
}

fn is_next(param: &str) -> bool {
    let Some((name, value)) = param.split_once('=') else { return false };
    let relations = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel")
        && relations.split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// Where the next link starts: at a comma outside quotes.
fn end_of_params(text: &str) -> usize {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c81_c82_every_form() {
        for (field, expected) in [
            (r#"</v2/n/tags/list?n=2&last=b>; rel="next""#, Some("/v2/n/tags/list?n=2&last=b")),
            ("<x>; rel=next", Some("x")),
            (r#"<x>; rel="prev next""#, Some("x")),
            (r#"<a>; rel="prev", <b>; rel="next""#, Some("b")),
            (r#"<a;b?c=d,e>; title="x, y"; rel=next"#, Some("a;b?c=d,e")),
            ("/v2/_catalog?last=x; rel=next", Some("/v2/_catalog?last=x")),
            (r#"<a>; rel="prev""#, None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_link(field), expected, "{field}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(field in "\\PC{0,80}|[<>;,= \"a-c]{0,80}") {
            let _ = next_link(&field);
        }
    }
}
