//! A request, as far as any endpoint looks at it.

use http::header::{CONTENT_LENGTH, HOST, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use super::query::{Query, decode};

/// A request without its body.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Query,
    uri: &'a Uri,
}

impl<'a> Call<'a> {
    pub(super) fn new(parts: &'a Parts) -> Self {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        Self { method: &parts.method, headers: &parts.headers, query, uri: &parts.uri }
    }

    /// The path, decoded; `None` if that can't be done.
    pub(super) fn path(&self) -> Option<String> {
        decode(self.uri.path(), false)
    }

    /// A header's value, if it is text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the client says the body has.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.parse().ok()
    }

    /// Scheme and host, as the client knows the registry.
    pub(super) fn base(&self) -> String {
        let forwarded = self.headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
        let scheme = self.uri.scheme_str().or(forwarded).unwrap_or("http");
        let host = self.uri.authority().map(|authority| authority.as_str());
        format!("{scheme}://{}", host.or_else(|| self.header(&HOST)).unwrap_or("localhost"))
    }
}
