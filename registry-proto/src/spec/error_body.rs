//! What registries say when they say no (distribution-spec, "Error Codes"; the variants in PROTOCOL §1.0).

use std::fmt;

use serde_json::Value;

/// The longest message that is kept, in characters.
const LONGEST: usize = 500;
/// The most errors that are kept of one reply.
const MOST: usize = 20;

/// One error of a reply. Control characters are gone from it: it can be printed to a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    code: Option<ErrorCode>,
    message: String,
}

impl ApiError {
    /// The registry's code, if it gave one.
    pub const fn code(&self) -> Option<&ErrorCode> {
        self.code.as_ref()
    }

    /// The registry's words.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) if self.message.is_empty() => write!(f, "{code}"),
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A registry's error codes.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// One that no specification knows.
            Other(String),
        }

        impl ErrorCode {
            fn new(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    other => Self::Other(clean(other, 60)),
                }
            }

            /// The code as registries write it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(text) => text,
                }
            }
        }
    };
}

codes! {
    /// The blob is not there.
    BlobUnknown = "BLOB_UNKNOWN";
    /// The upload can't go on.
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID";
    /// The upload session is not there.
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN";
    /// The content doesn't have the digest.
    DigestInvalid = "DIGEST_INVALID";
    /// The manifest names a blob that is not there.
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN";
    /// The manifest can't be taken.
    ManifestInvalid = "MANIFEST_INVALID";
    /// The manifest is not there.
    ManifestUnknown = "MANIFEST_UNKNOWN";
    /// The repository's name can't be taken.
    NameInvalid = "NAME_INVALID";
    /// The repository is not there.
    NameUnknown = "NAME_UNKNOWN";
    /// Bytes are out of order.
    RangeInvalid = "RANGE_INVALID";
    /// The content doesn't have the size.
    SizeInvalid = "SIZE_INVALID";
    /// The tag can't be taken.
    TagInvalid = "TAG_INVALID";
    /// Who are you?
    Unauthorized = "UNAUTHORIZED";
    /// You may not.
    Denied = "DENIED";
    /// Not done here.
    Unsupported = "UNSUPPORTED";
    /// Slower, please.
    TooManyRequests = "TOOMANYREQUESTS";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the body of a refusal says, in whichever way it says it: the specification's list, one of the forms that products
/// have instead, or text.
///
/// ```
/// use registry_proto::spec::{ErrorCode, parse_error_body};
///
/// let said = parse_error_body(br#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#);
/// assert_eq!(said[0].code(), Some(&ErrorCode::Denied));
/// assert_eq!(said[0].to_string(), "DENIED: not yours");
/// ```
pub fn parse_error_body(body: &[u8]) -> Vec<ApiError> {
    let plain = |text: &str| {
        let message = clean(text, LONGEST);
        if message.is_empty() { Vec::new() } else { vec![ApiError { code: None, message }] }
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => {
            if let Some(Value::Array(errors)) = fields.get("errors") {
                return errors.iter().take(MOST).filter_map(one).collect();
            }
            ["message", "details", "detail", "error_description", "error"]
                .iter()
                .find_map(|key| fields.get(*key)?.as_str())
                .map(plain)
                .unwrap_or_default()
        }
        Ok(Value::String(text)) => plain(&text),
        Ok(_) => Vec::new(),
        Err(_) => plain(&without_markup(&String::from_utf8_lossy(body))),
    }
}

fn one(error: &Value) -> Option<ApiError> {
    let code = match error.get("code") {
        Some(Value::String(code)) => Some(ErrorCode::new(code)).filter(|code| !code.as_str().is_empty()),
        Some(Value::Number(code)) => Some(ErrorCode::new(&code.to_string())),
        _ => None,
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).map(|text| clean(text, LONGEST));
    let mut message = text("message").or_else(|| error.as_str().map(|text| clean(text, LONGEST))).unwrap_or_default();
    if let Some(detail) = text("detail").filter(|detail| !detail.is_empty()) {
        message = if message.is_empty() { detail } else { format!("{message} ({detail})") };
    }
    (code.is_some() || !message.is_empty()).then_some(ApiError { code, message })
}

/// What stands between the tags of HTML or XML: enough to see what kind of page it is.
fn without_markup(text: &str) -> String {
    if !text.trim_start().starts_with('<') {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

/// Whether a terminal that is shown this does more than show it, such as to write from right to left.
pub(crate) fn commands(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What strangers wrote, for a terminal: whatever would do more there than show itself (move the cursor, colour the screen, turn the
/// direction of the text) is written out as an escape.
///
/// ```
/// use registry_proto::spec::escaped;
///
/// assert_eq!(escaped("\u{1b}[31mred \u{202e}no.exe"), "\\u{1b}[31mred \\u{202e}no.exe");
/// ```
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if commands(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// One line without anything that [commands](commands) (a registry's words end up on terminals), and not too long.
pub(crate) fn clean(text: &str, longest: usize) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || commands(c)).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c91_every_variant() {
        let said = |body: &str| {
            parse_error_body(body.as_bytes()).iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
        };
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "MANIFEST_UNKNOWN: manifest unknown",
            ),
            (r#"{"errors":[{"code":"A","message":"b","detail":"c"},{"code":"D"}]}"#, "A: b (c) | D"),
            (r#"{"errors":[{"code":500,"message":"boom"}]}"#, "500: boom"),
            (r#"{"errors":[]}"#, ""),
            (r#"{"details":"d"}"#, "d"),
            (r#"{"message":"m"}"#, "m"),
            (r#"{"error":"e"}"#, "e"),
            ("plain\x1b[31m text\r\n", "plain [31m text"),
            ("<html><title>413 Too\nLarge</title></html>", "413 Too Large"),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
            ("", ""),
            ("[1]", ""),
            (r#"{"errors":[{"code":""},{"code":" ","message":""}]}"#, ""),
        ] {
            assert_eq!(said(body), expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn a38_nothing_that_could_control_a_terminal(body in any::<Vec<u8>>()) {
            for error in parse_error_body(&body) {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }
}
