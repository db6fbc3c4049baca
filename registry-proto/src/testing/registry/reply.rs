//! Replies, and the form that errors have in them.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};

/// What distribution puts on every reply.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// The digest of the content that a reply is about.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The errors of the specification and distribution: code, message, status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(&'static str, &'static str, StatusCode);

impl Code {
    pub(super) const BLOB_UNKNOWN: Self = Self("BLOB_UNKNOWN", "blob unknown to registry", StatusCode::NOT_FOUND);
    pub(super) const UPLOAD_INVALID: Self = Self("BLOB_UPLOAD_INVALID", "blob upload invalid", StatusCode::NOT_FOUND);
    pub(super) const UPLOAD_UNKNOWN: Self =
        Self("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", StatusCode::NOT_FOUND);
    pub(super) const DENIED: Self = Self("DENIED", "requested access to the resource is denied", StatusCode::FORBIDDEN);
    pub(super) const DIGEST_INVALID: Self =
        Self("DIGEST_INVALID", "provided digest did not match uploaded content", StatusCode::BAD_REQUEST);
    pub(super) const MANIFEST_BLOB_UNKNOWN: Self =
        Self("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", StatusCode::BAD_REQUEST);
    pub(super) const MANIFEST_INVALID: Self = Self("MANIFEST_INVALID", "manifest invalid", StatusCode::BAD_REQUEST);
    pub(super) const MANIFEST_UNKNOWN: Self = Self("MANIFEST_UNKNOWN", "manifest unknown", StatusCode::NOT_FOUND);
    pub(super) const NAME_INVALID: Self = Self("NAME_INVALID", "invalid repository name", StatusCode::BAD_REQUEST);
    pub(super) const NAME_UNKNOWN: Self =
        Self("NAME_UNKNOWN", "repository name not known to registry", StatusCode::NOT_FOUND);
    pub(super) const PAGINATION: Self =
        Self("PAGINATION_NUMBER_INVALID", "invalid number of results requested", StatusCode::BAD_REQUEST);
    pub(super) const RANGE_INVALID: Self =
        Self("RANGE_INVALID", "invalid content range", StatusCode::RANGE_NOT_SATISFIABLE);
    pub(super) const SIZE_INVALID: Self =
        Self("SIZE_INVALID", "provided length did not match content length", StatusCode::BAD_REQUEST);
    pub(super) const TAG_INVALID: Self = Self("TAG_INVALID", "manifest tag did not match URI", StatusCode::BAD_REQUEST);
    pub(super) const UNAUTHORIZED: Self = Self("UNAUTHORIZED", "authentication required", StatusCode::UNAUTHORIZED);
    pub(super) const UNKNOWN: Self = Self("UNKNOWN", "unknown error", StatusCode::INTERNAL_SERVER_ERROR);
    pub(super) const UNSUPPORTED: Self =
        Self("UNSUPPORTED", "The operation is unsupported.", StatusCode::METHOD_NOT_ALLOWED);
}

/// Why a request is not done, as it is told to the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{status}")]
pub(super) struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Errors(Vec<Value>),
    Text(&'static str, &'static str),
}

impl From<Code> for Refusal {
    fn from(Code(code, message, status): Code) -> Self {
        let error = json!({ "code": code, "message": message });
        Self { status, headers: HeaderMap::new(), body: Body::Errors(vec![error]) }
    }
}

impl Refusal {
    /// The same error for several things, each told in its `detail`.
    pub(super) fn each(Code(code, message, status): Code, details: impl Iterator<Item = Value>) -> Self {
        let errors = details.map(|detail| json!({ "code": code, "message": message, "detail": detail })).collect();
        Self { status, headers: HeaderMap::new(), body: Body::Errors(errors) }
    }

    /// What is no business of the registry's own: a router's or a proxy's answer.
    pub(super) fn text(status: StatusCode, text: &'static str) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Text("text/plain; charset=utf-8", text) }
    }

    /// The path is not one of a registry.
    pub(super) fn no_such_path() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    /// The path is there, but not for this method.
    pub(super) fn no_such_method() -> Self {
        Self::text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n")
    }

    /// What nginx says to bodies that are too large for it.
    pub(super) fn too_large() -> Self {
        const PAGE: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request \
                            Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, headers: HeaderMap::new(), body: Body::Text("text/html", PAGE) }
    }

    /// What S3 says.
    pub(super) fn storage(status: StatusCode, xml: &'static str) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Text("application/xml", xml) }
    }

    pub(super) const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn message(mut self, message: &str) -> Self {
        if let Body::Errors(errors) = &mut self.body {
            errors.iter_mut().for_each(|error| error["message"] = message.into());
        }
        self
    }

    pub(super) fn detail(mut self, detail: impl Into<Value>) -> Self {
        if let Body::Errors(errors) = &mut self.body {
            let detail = detail.into();
            errors.iter_mut().for_each(|error| error["detail"] = detail.clone());
        }
        self
    }

    pub(super) fn header(mut self, name: HeaderName, text: &str) -> Self {
        self.headers.append(name, value(text));
        self
    }

    pub(super) fn into_reply(self) -> Response<Bytes> {
        let (content_type, body) = match self.body {
            Body::Errors(errors) => ("application/json", format!("{}\n", json!({ "errors": errors })).into()),
            Body::Text(content_type, text) => (content_type, Bytes::from_static(text.as_bytes())),
        };
        let mut reply = Response::new(body);
        *reply.status_mut() = self.status;
        *reply.headers_mut() = self.headers;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply
    }
}

/// What comes of a request.
pub(super) type Outcome = Result<Response<Bytes>, Refusal>;

/// The value of a header. What can't be one (only a profile can hold such) becomes nothing.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(const { HeaderValue::from_static("") })
}

/// A reply without a body.
pub(super) fn empty(status: StatusCode) -> Response<Bytes> {
    with_body(status, Bytes::new())
}

/// A reply with a body.
pub(super) fn with_body(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
}

/// A reply with JSON, of this type.
pub(super) fn json_reply(content_type: &str, json: &Value) -> Response<Bytes> {
    with_body(StatusCode::OK, format!("{json}\n").into()).with(CONTENT_TYPE, content_type)
}

/// Adding headers one by one.
pub(super) trait With {
    /// With one more header.
    fn with(self, name: HeaderName, text: &str) -> Self;
}

impl With for Response<Bytes> {
    fn with(mut self, name: HeaderName, text: &str) -> Self {
        self.headers_mut().append(name, value(text));
        self
    }
}

/// What all replies have in common: the version, the length, and no body to `HEAD`.
pub(super) fn finish(method: &Method, mut reply: Response<Bytes>) -> Response<Bytes> {
    let length = reply.body().len();
    let bodiless = matches!(reply.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = reply.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if !bodiless {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if bodiless || method == Method::HEAD {
        *reply.body_mut() = Bytes::new();
    }
    reply
}
