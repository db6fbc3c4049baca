//! The way through a proxy to one origin (RFC 9110 §9.3.6): what is said to it, and what its answer means.

use std::fmt;
use std::time::Duration;

use http::Uri;

use crate::job::{Failure, FailureKind, ProxyFault};
use crate::session::proxy::Proxy;
use crate::spec::{Challenge, Origin, clean};

/// The longest head of a proxy's answer, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// How much of what a proxy says about its answer is quoted, in characters.
const LONGEST_REASON: usize = 100;
/// How every answer begins.
const START: &[u8] = b"HTTP/1.";

/// A connection to a proxy that is to become one to somebody behind it.
///
/// ```text
///   connect to url() ─▶ write request() ─▶ read, receive(…) ─┬─ false ─▶ read on
///                                                             ├─ true ──▶ what is said now, it is said to who was asked for
///                                                             └─ Err ───▶ close the connection
/// ```
///
/// All of that within its [`patience`](Tunnel::patience). A driver that gets no further reports what
/// [`unreachable`](Tunnel::unreachable), [`cut`](Tunnel::cut) or [`late`](Tunnel::late) makes of it. `Debug` shows no credentials.
pub struct Tunnel {
    proxy: Uri,
    to: Origin,
    request: Vec<u8>,
    shows_credentials: bool,
    head: Vec<u8>,
}

impl Tunnel {
    pub(super) fn new(proxy: &Proxy, to: Origin) -> Self {
        // The port is always said here, also one that goes without saying elsewhere.
        let place = format!("{}:{}", to.host(), to.port());
        let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n").into_bytes();
        let authorization = proxy.authorization();
        if let Some(value) = &authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let url = proxy.at().at("/").expect("an origin has a URL");
        Self { proxy: url, to, request, shows_credentials: authorization.is_some(), head: Vec::new() }
    }

    /// Where to connect to, instead of to the URL's own host: the proxy's URL, without credentials.
    pub const fn url(&self) -> &Uri {
        &self.proxy
    }

    /// How long to wait for the way to be open, of what there is for the whole connection: a little less, so that who keeps silent is
    /// told apart from who is behind it.
    pub fn patience(&self, connect: Duration) -> Duration {
        connect - connect / 8
    }

    /// What to send first. There may be a password in it: it is for the proxy's eyes only.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes in what the proxy answers, piece by piece; none at all means that it closed the connection. Whether the way is open.
    ///
    /// # Errors
    /// [`FailureKind::Proxy`] when it stays closed.
    pub fn receive(&mut self, piece: &[u8]) -> Result<bool, Failure> {
        if piece.is_empty() {
            return Err(self.cut("it closed the connection"));
        }
        let known = self.head.len();
        self.head.extend_from_slice(piece);
        let begun = self.head.len().min(START.len());
        if self.head[..begun] != START[..begun] {
            return Err(self.fault(ProxyFault::Protocol, "its answer is not HTTP/1"));
        }
        let Some(end) = end_of_head(&self.head, known) else {
            if self.head.len() > LONGEST_HEAD {
                return Err(self.fault(ProxyFault::Protocol, "the head of its answer does not end"));
            }
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&self.head[..end]).into_owned();
        let mut lines = head.lines();
        let (status, reason) = status(lines.next().unwrap_or_default())
            .ok_or_else(|| self.fault(ProxyFault::Protocol, "its answer has no status"))?;
        let said = format!("{status} {}", clean(reason, LONGEST_REASON));
        match status {
            // Nobody behind it was asked anything yet, so that these bytes are nobody's answer.
            200..=299 if self.head.len() > end => {
                Err(self.fault(ProxyFault::Protocol, "it says more than it was asked"))
            }
            200..=299 => Ok(true),
            407 => Err(self.fault(ProxyFault::Credentials, format_args!("{}{}", said.trim(), self.wanted(lines)))),
            408 | 429 | 500..=599 => Err(self.fault(ProxyFault::Beyond, said.trim())),
            300..=499 => Err(self.fault(ProxyFault::Refused, said.trim())),
            _ => Err(self.fault(ProxyFault::Protocol, format_args!("its answer has the status {}", said.trim()))),
        }
    }

    /// What became of it when no connection to the proxy could be made.
    #[must_use]
    pub fn unreachable(&self, why: &Failure) -> Failure {
        // That its address is one that nobody may be sent to is no matter of trying again.
        if why.kind() == FailureKind::Forbidden {
            return why.clone();
        }
        self.fault(ProxyFault::Unreachable, why.detail())
    }

    /// What became of it when the connection to the proxy ended before it had answered.
    #[must_use]
    pub fn cut(&self, why: impl fmt::Display) -> Failure {
        self.fault(ProxyFault::Silent, why)
    }

    /// What became of it when there was no answer in time.
    #[must_use]
    pub fn late(&self) -> Failure {
        self.fault(ProxyFault::Silent, "nothing came in time")
    }

    fn fault(&self, fault: ProxyFault, why: impl fmt::Display) -> Failure {
        let proxy = Origin::of(&self.proxy).map_or_else(String::new, |proxy| proxy.to_string());
        let why = format_args!("{proxy}, on the way to {}:{}: {why}", self.to.host(), self.to.port());
        Failure::new(FailureKind::Proxy(fault), why)
    }

    /// What a 407 says about what would be right.
    fn wanted<'a>(&self, fields: impl Iterator<Item = &'a str>) -> String {
        let fields = fields.filter_map(|line| line.split_once(':'));
        let values = fields
            .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"))
            .map(|(_, value)| value.trim().as_bytes());
        let schemes: Vec<String> = Challenge::parse_all(values).iter().map(|one| one.scheme().to_owned()).collect();
        if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme == "basic") {
            let schemes = clean(&schemes.join(", "), LONGEST_REASON);
            return format!("; it takes {schemes}, and only basic is known here");
        }
        let shown = if self.shows_credentials { "it doesn't take those it was shown" } else { "it was shown none" };
        format!("; {shown}")
    }
}

/// Where the head's last line ends, which it doesn't in the first `known` bytes. Line ends without their first half are taken,
/// too (RFC 9112 §2.2).
fn end_of_head(bytes: &[u8], known: usize) -> Option<usize> {
    (known.saturating_sub(2)..bytes.len()).filter(|at| *at > 0 && bytes[at - 1] == b'\n').find_map(|at| {
        match &bytes[at..] {
            [b'\n', ..] => Some(at + 1),
            [b'\r', b'\n', ..] => Some(at + 2),
            _ => None,
        }
    })
}

/// Status and reason of `HTTP/1.1 200 Connection established`.
fn status(line: &str) -> Option<(u16, &str)> {
    let (_, rest) = line.split_once(' ')?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    (status.len() == 3).then_some((status.parse().ok()?, reason))
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel(to {} by way of {})", self.to, self.proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(proxy: &str, to: &str) -> Tunnel {
        Tunnel::new(&proxy.parse().unwrap(), Origin::of(&to.parse().unwrap()).unwrap())
    }

    fn plain() -> Tunnel {
        tunnel("http://p:3128", "https://r.example/v2/")
    }

    /// The fault and the words of a failed answer.
    #[track_caller]
    fn failed(tunnel: &mut Tunnel, answer: &[u8]) -> (ProxyFault, String) {
        let why = tunnel.receive(answer).unwrap_err();
        let FailureKind::Proxy(fault) = why.kind() else { panic!("{why}") };
        assert!(why.to_string().contains("http://p:3128, on the way to r.example:443"), "{why}");
        assert!(why.sent_nothing());
        (fault, why.to_string())
    }

    #[test]
    fn what_is_said() {
        let said = |proxy: &str, to: &str| String::from_utf8(tunnel(proxy, to).request().to_vec()).unwrap();
        assert_eq!(
            said("p:3128", "https://r.example/v2/?x"),
            "CONNECT r.example:443 HTTP/1.1\r\nHost: r.example:443\r\n\r\n"
        );
        assert_eq!(
            said("me:hunter2@p", "http://[fd00::1]:5000/"),
            "CONNECT [fd00::1]:5000 HTTP/1.1\r\nHost: [fd00::1]:5000\r\nProxy-Authorization: Basic bWU6aHVudGVyMg==\r\n\r\n"
        );
        assert_eq!(plain().url(), "http://p:3128/");
    }

    #[test]
    fn answers_that_open_the_way() {
        for answer in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200\r\n\r\n",
            "HTTP/1.1 204 \n\n",
        ] {
            assert_eq!(plain().receive(answer.as_bytes()), Ok(true), "{answer}");
            // However it is cut.
            let mut tunnel = plain();
            let (last, rest) = answer.as_bytes().split_last().unwrap();
            assert!(rest.iter().all(|byte| tunnel.receive(&[*byte]) == Ok(false)), "{answer}");
            assert_eq!(tunnel.receive(&[*last]), Ok(true), "{answer}");
        }
    }

    #[test]
    fn whose_fault_it_is() {
        for (answer, fault, words) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnope!", ProxyFault::Refused, "403 Forbidden"),
            ("HTTP/1.1 405 \x1b[31mno\r\n\r\n", ProxyFault::Refused, "405 [31mno"),
            ("HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n", ProxyFault::Refused, "302 Found"),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", ProxyFault::Beyond, "502 Bad Gateway"),
            ("HTTP/1.1 503\r\n\r\n", ProxyFault::Beyond, "503"),
            ("HTTP/1.1 429 Slow down\r\n\r\n", ProxyFault::Beyond, "429 Slow down"),
            ("HTTP/1.1 100 Continue\r\n\r\n", ProxyFault::Protocol, "100"),
            ("HTTP/1.1 20 OK\r\n\r\n", ProxyFault::Protocol, "no status"),
            ("HTTP/1.1\r\n\r\n", ProxyFault::Protocol, "no status"),
            ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK", ProxyFault::Protocol, "more than it was asked"),
            ("HTTP/2 200\r\n\r\n", ProxyFault::Protocol, "not HTTP/1"),
            ("SSH-2.0-OpenSSH_9.9\r\n", ProxyFault::Protocol, "not HTTP/1"),
            ("\x15\x03\x01", ProxyFault::Protocol, "not HTTP/1"),
            ("", ProxyFault::Silent, "closed the connection"),
        ] {
            let (is, said) = failed(&mut plain(), answer.as_bytes());
            assert_eq!(is, fault, "{answer}");
            assert!(said.contains(words), "{said}");
        }
        let mut tunnel = plain();
        assert_eq!(tunnel.receive(b"HTTP/1.1 200 OK\r\n"), Ok(false));
        assert_eq!(failed(&mut tunnel, b"").0, ProxyFault::Silent);
        let late = plain().late();
        assert!(late.is_transient() && late.to_string().contains("http://p:3128"), "{late}");
    }

    #[test]
    fn who_wants_other_credentials() {
        let wants = |fields: &str| format!("HTTP/1.1 407 Proxy Authentication Required\r\n{fields}\r\n").into_bytes();
        let basic = wants("Proxy-Authenticate: Basic realm=\"p\"\r\n");
        let (fault, why) = failed(&mut plain(), &basic);
        assert_eq!(fault, ProxyFault::Credentials);
        assert!(why.contains("407 Proxy Authentication Required; it was shown none"), "{why}");
        let (_, why) = failed(&mut tunnel("me:hunter2@p:3128", "https://r.example/"), &basic);
        assert!(why.contains("it doesn't take those it was shown") && !why.contains("hunter2"), "{why}");
        let (_, why) = failed(&mut plain(), &wants("proxy-authenticate: Negotiate, NTLM\r\n"));
        assert!(why.contains("it takes negotiate, ntlm, and only basic is known here"), "{why}");
        assert!(failed(&mut plain(), &wants("")).1.contains("it was shown none"));
    }

    #[test]
    fn a31_a_proxys_head_ends() {
        let mut tunnel = plain();
        assert_eq!(tunnel.receive(b"HTTP/1.1 200 OK\r\n"), Ok(false));
        let line = [&b"X: "[..], &[b'x'; 4091], b"\r\n"].concat();
        let lines = (0..100).find_map(|nth| Some((nth, tunnel.receive(&line).err()?)));
        let (taken, why) = lines.unwrap();
        assert_eq!(taken, 15, "64 KiB");
        assert!(why.to_string().contains("does not end"), "{why}");
    }
}
