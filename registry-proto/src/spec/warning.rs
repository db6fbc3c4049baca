//! What registries want people to know though nothing went wrong (distribution-spec, "Warnings"; RFC 7234 §5.5).

use crate::spec::error_body::clean;

/// The longest warning that is kept, in characters.
const LONGEST: usize = 500;

/// The texts of a `Warning` header: `299 - "text"`, of which a field may hold several.
///
/// Other codes and agents are those of caches on the way, which speak of freshness and not to people. What follows
/// something malformed is left out. Control characters are gone: a text can be printed to a terminal.
///
/// ```
/// use registry_proto::spec::parse_warnings;
///
/// assert_eq!(parse_warnings(r#"299 - "this tag moves soon", 110 - "stale""#), ["this tag moves soon"]);
/// ```
pub fn parse_warnings(field: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = field.trim_start_matches([' ', '\t', ',']);
    while let Some((warning, after)) = next(rest) {
        if (warning.code, warning.agent) == ("299", "-") {
            let text = clean(&warning.text, LONGEST);
            if !text.is_empty() {
                texts.push(text);
            }
        }
        rest = after;
    }
    texts
}

struct Warning<'a> {
    code: &'a str,
    agent: &'a str,
    text: String,
}

/// The first warning of a list, and what comes after it.
fn next(list: &str) -> Option<(Warning<'_>, &str)> {
    let (code, rest) = list.split_once(' ')?;
    let (agent, rest) = rest.trim_start_matches(' ').split_once(' ')?;
    let (text, rest) = quoted(rest.trim_start_matches(' '))?;
    let rest = rest.trim_start_matches([' ', '\t']);
    // A date may follow, which registries MUST NOT send.
    let rest = if rest.starts_with('"') { quoted(rest)?.1.trim_start_matches([' ', '\t']) } else { rest };
    (rest.is_empty() || rest.starts_with(','))
        .then(|| (Warning { code, agent, text }, rest.trim_start_matches([' ', '\t', ','])))
}

/// A quoted string without its quotes, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut plain = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((plain, &inside[at + 1..])),
            '\\' => plain.push(chars.next()?.1),
            c => plain.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        for (field, expected) in [
            (
                r#"299 - "Your auth token will expire in 30 seconds.""#,
                &["Your auth token will expire in 30 seconds."][..],
            ),
            (r#"299 - "a", 299 - "b",299 - "a""#, &["a", "b", "a"]),
            (r#"299 - "say \"no\", \\ or 299 - \"x\"""#, &[r#"say "no", \ or 299 - "x""#]),
            (r#"299 - "dated" "Wed, 21 Oct 2015 07:28:00 GMT", 299 - "next""#, &["dated", "next"]),
            (r#"110 proxy "Response is Stale", 299 - "mine", 299 proxy "its""#, &["mine"]),
            (" , 299  -  \"spaces\" ,, ", &["spaces"]),
            ("299 - \"one\u{1b}[31m\n line\"", &["one [31m line"]),
            (r#"299 - "", 299 - " ""#, &[]),
            // Malformed, and what follows it.
            ("", &[]),
            ("299", &[]),
            ("299 - text", &[]),
            (r#"299 - "open"#, &[]),
            (r#"299 - "open\"#, &[]),
            (r#"299 - "good", 299 - bad, 299 - "lost""#, &["good"]),
            (r#"299 - "good"x, 299 - "lost""#, &[]),
        ] {
            assert_eq!(parse_warnings(field), expected, "{field}");
        }
        let long = parse_warnings(&format!("299 - \"{}\"", "x".repeat(5000)));
        assert_eq!(long[0].chars().count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn a38_nothing_that_could_control_a_terminal(field in r#"(299 - )?["\\, a-z0-9\-\PC\x00-\x1f]{0,80}"#) {
            for text in parse_warnings(&field) {
                prop_assert!(!text.chars().any(char::is_control));
            }
        }

        #[test]
        fn what_is_quoted_is_read(text in r#"[ -~]{1,60}"#) {
            let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
            let words: Vec<&str> = text.split_whitespace().collect();
            let expected = if words.is_empty() { vec![] } else { vec![words.join(" ")] };
            prop_assert_eq!(parse_warnings(&format!("299 - \"{quoted}\"")), expected);
        }
    }
}
