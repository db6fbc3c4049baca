//! `WWW-Authenticate` (RFC 9110 §11), with the leniency that registries need (PROTOCOL §2.2).

/// The most that is read: fields longer than this and challenges beyond this are left out.
const LONGEST_FIELD: usize = 8 << 10;
const MOST_CHALLENGES: usize = 16;
const MOST_PARAMS: usize = 64;

/// One way in which a server can be satisfied.
///
/// ```
/// use registry_proto::spec::Challenge;
///
/// let field = br#"Bearer realm="https://auth.example.org/token",service="registry", Basic realm="r""#;
/// let [bearer, basic] = &Challenge::parse_all([&field[..]])[..] else { panic!("there are two") };
/// assert_eq!((bearer.scheme(), bearer.param("realm")), ("bearer", Some("https://auth.example.org/token")));
/// assert_eq!(basic.scheme(), "basic");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    token68: Option<String>,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// The scheme in lower case: `bearer`, `basic` …
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The opaque value that some schemes have instead of parameters.
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// A parameter, by its name in lower case. If it occurs twice, the first counts.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All parameters, names in lower case.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }

    /// All challenges of all fields of a reply: several in one field and several fields mean the same. A challenge that
    /// can't be read is left out, the others stay.
    pub fn parse_all<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<Self> {
        let mut found = Vec::new();
        for field in fields {
            if field.len() <= LONGEST_FIELD {
                parse_field(&String::from_utf8_lossy(field), &mut found);
            }
        }
        found.truncate(MOST_CHALLENGES);
        found
    }
}

fn parse_field(field: &str, found: &mut Vec<Challenge>) {
    let mut rest = field;
    while found.len() < MOST_CHALLENGES {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((scheme, after)) = token(rest) else { return };
        let mut challenge = Challenge { scheme: scheme.to_ascii_lowercase(), token68: None, params: Vec::new() };
        rest = after.trim_start_matches([' ', '\t']);
        if rest.len() < after.len()
            && let Some((value, after)) = token68(rest)
        {
            challenge.token68 = Some(value.to_owned());
            rest = after;
        } else {
            match params(rest, &mut challenge.params) {
                Some(after) => rest = after,
                None => return, // an unterminated string swallows the rest; this challenge is worth nothing
            }
        }
        found.push(challenge);
    }
}

/// Reads parameters up to the next challenge or the end. `None` if a string does not end.
fn params<'a>(mut rest: &'a str, into: &mut Vec<(String, String)>) -> Option<&'a str> {
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(start) else { return Some(start) };
        // A name is followed by `=`; a word that is not starts the next challenge.
        let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else { return Some(start) };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) =
            if let Some(quoted) = value.strip_prefix('"') { quoted_string(quoted)? } else { bare(value) };
        if into.len() < MOST_PARAMS {
            into.push((name.to_ascii_lowercase(), value));
        }
        rest = after;
    }
}

fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// An unquoted value: more than the grammar's token, since NGC leaves URLs unquoted.
fn bare(text: &str) -> (String, &str) {
    let end = text.find([',', ' ', '\t', '"']).unwrap_or(text.len());
    (text[..end].to_owned(), &text[end..])
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `token68` may end in `=`, and so looks like a parameter until one sees that nothing follows.
fn token68(text: &str) -> Option<(&str, &str)> {
    let is_68 = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    let body = text.bytes().position(|b| !is_68(b)).unwrap_or(text.len());
    let padding = text[body..].bytes().take_while(|&b| b == b'=').count();
    let (value, rest) = text.split_at(body + padding);
    let ends = rest.trim_start_matches([' ', '\t']);
    // `Negotiate, Basic`: a word before a comma is the next scheme unless it stands right behind this one.
    (body > 0 && (ends.is_empty() || ends.starts_with(','))).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(fields: &[&str]) -> String {
        let all = Challenge::parse_all(fields.iter().map(|field| field.as_bytes()));
        let one = |c: &Challenge| {
            let token = c.token68().map(|t| format!("[{t}]")).unwrap_or_default();
            let params: Vec<String> = c.params().iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}{token}{{{}}}", c.scheme(), params.join("; "))
        };
        all.iter().map(one).collect::<Vec<_>>().join(" & ")
    }

    #[test]
    fn w1_to_w20() {
        for (fields, expected) in [
            (
                &[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#][..],
                "bearer{realm=https://auth.docker.io/token; service=registry.docker.io}",
            ),
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:x/y:pull,push""#],
                "bearer{realm=https://a/t; service=s; scope=repository:x/y:pull,push}",
            ),
            (&[r#"bearer REALM="https://a/t" , Service = s"#], "bearer{realm=https://a/t; service=s}"),
            (&[r#"BASIC realm="Sonatype Nexus Repository Manager""#], "basic{realm=Sonatype Nexus Repository Manager}"),
            (&["Basic"], "basic{}"),
            (&[r#"Negotiate, Basic realm="r""#], "negotiate{} & basic{realm=r}"),
            (
                &[r#"Negotiate YIIB+a/b==, Bearer realm="https://a/t",service="s", Basic realm="x, y""#],
                "negotiate[YIIB+a/b==]{} & bearer{realm=https://a/t; service=s} & basic{realm=x, y}",
            ),
            (
                &[r#"Bearer realm="https://a/t",service="",scope="repository:a:pull""#],
                "bearer{realm=https://a/t; service=; scope=repository:a:pull}",
            ),
            (&[r#"Bearer realm="a\"b\\c""#], r#"bearer{realm=a"b\c}"#),
            (&[r#", ,Bearer realm="https://a/t",,"#], "bearer{realm=https://a/t}"),
            (&["Bearer realm=https://a/t?x=y,service=s"], "bearer{realm=https://a/t?x=y; service=s}"),
            (
                &[r#"Bearer realm="https://a/t",error="invalid_token",error_description="exp, or not yet""#],
                "bearer{realm=https://a/t; error=invalid_token; error_description=exp, or not yet}",
            ),
            (&[r#"Bearer realm="unterminated"#], ""),
            (&["Bearer"], "bearer{}"),
            (
                &[r#"Digest qop="auth, auth-int", nonce="x", Bearer realm="https://a/t""#],
                "digest{qop=auth, auth-int; nonce=x} & bearer{realm=https://a/t}",
            ),
            (
                &[r#"Bearer realm="https://a/t",scope="repository:a:pull repository:b:pull,push""#],
                "bearer{realm=https://a/t; scope=repository:a:pull repository:b:pull,push}",
            ),
            (
                &[r#"Bearer realm="https://a/t",realm="https://evil/t""#],
                "bearer{realm=https://a/t; realm=https://evil/t}",
            ),
            (
                &[r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#],
                r#"newauth{realm=apps; type=1; title=Login to "apps"} & basic{realm=simple}"#,
            ),
            (&[r#"Bearer realm="https://a/t""#, "Basic"], "bearer{realm=https://a/t} & basic{}"),
            (&[""], ""),
        ] {
            assert_eq!(show(fields), expected, "{fields:?}");
        }
        let twice = Challenge::parse_all([r#"Bearer realm="https://a/t",realm="https://evil/t""#.as_bytes()]);
        assert_eq!(twice[0].param("realm"), Some("https://a/t"), "W17");
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_bounded(field in "\\PC{0,200}|[ ,=\"\\\\a-cA-C/+]{0,200}") {
            prop_assert!(Challenge::parse_all([field.as_bytes()]).len() <= MOST_CHALLENGES);
        }
    }
}
