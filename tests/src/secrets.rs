//! A watch on everything that is said while the tests run: no password, token or signed query may be among it.
//!
//! ureq's own words are heard up to `debug`: at `trace` it shows whole URLs, and `ureq_proto` every byte of a request's head, as its
//! users are told (runtime-blocking's README). `suite/logs.rs` has that, and listens to them, too ([`hear_all_of_ureq`]).
//!
//! It hears what any library writes to a log (`tracing` and `log`), and is shown every event and error by [`crate::runtimes`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use crate::token_server::{IDENTITY_TOKEN, PASSWORD};

/// Secrets that tests made up on the way.
static REGISTERED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What was heard in logs and should not have been.
static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether ureq's dumps are listened to.
static DUMPS: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The last bytes that `ureq_proto` has dumped on this thread, 16 a line: a secret has more.
    static DUMPED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Those that many tests use, in the clear and in what `Authorization` makes of them; and what signed URLs are signed with.
const KNOWN: [&str; 8] = [
    PASSWORD,
    IDENTITY_TOKEN,
    "hunter2",
    "wrong-password",
    "dXNlcjpzd29yZGZpc2g",
    "cmVhZGVyOnN3b3JkZmlzaA",
    "X-Amz-Signature=",
    "&sig=",
];

/// From now on this may not be said.
pub fn register(secret: &str) {
    assert!(secret.len() > 7, "that short, it could be anything");
    lock(&REGISTERED).insert(secret.to_owned());
}

/// Whether this process is measured, by a bench or for its memory: listening takes both.
fn is_measured() -> bool {
    !cfg!(debug_assertions) || crate::memory::task().is_some()
}

/// From now on it is listened to whatever is logged, in this whole process; unless it is one that is measured.
///
/// # Panics
/// When somebody else listens already, and this can't.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if is_measured() {
            return;
        }
        tracing::subscriber::set_global_default(Watch).expect("tests install no other");
        log::set_logger(&Watch).expect("tests install no other");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Looks at something that was said.
///
/// # Panics
/// When there is a secret in it.
#[track_caller]
pub fn check(text: &str) {
    assert!(found_in(text).is_none(), "a secret: {text}");
}

/// Looks back at what was logged.
///
/// # Panics
/// When there was a secret among it.
#[track_caller]
pub fn none_was_logged() {
    let heard = lock(&HEARD);
    assert!(heard.is_empty(), "secrets in logs: {heard:?}");
}

/// From now on, what ureq says at `trace` is listened to as well, or no longer.
pub fn hear_all_of_ureq(all: bool) {
    DUMPS.store(all, Ordering::SeqCst);
}

/// What was heard so far and should not have been. It is forgotten.
pub fn heard() -> Vec<String> {
    std::mem::take(&mut *lock(&HEARD))
}

/// The secret that a text gives away.
fn found_in(text: &str) -> Option<String> {
    let registered = lock(&REGISTERED);
    let known = KNOWN.into_iter().chain(registered.iter().map(String::as_str));
    known.filter(|secret| text.contains(secret)).map(str::to_owned).next().or_else(|| shown_in_a_header(text))
}

/// What follows `Bearer` or `Basic`, when it is no parameter of a challenge.
fn shown_in_a_header(text: &str) -> Option<String> {
    ["Bearer ", "Basic "].iter().find_map(|scheme| {
        text.split(scheme).skip(1).find_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-+/".contains(c)).unwrap_or(rest.len());
            (end > 15).then(|| rest[..end].to_owned())
        })
    })
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watch;

impl Watch {
    fn hear(&self, from: &str, text: &str) {
        if found_in(text).is_some() {
            lock(&HEARD).push(format!("{from}: {text}"));
        }
    }
}

/// The reactors see no bytes, and say something for each time that they look.
fn is_a_reactor(target: &str) -> bool {
    ["async_io", "polling", "mio"].iter().any(|name| target.starts_with(name))
}

/// A line of a dump belongs to those before it.
fn joined(line: &str) -> String {
    // 16 bytes in hexadecimal, in pairs of two, and the same once more as text.
    let digits: Vec<u8> = line.bytes().take(40).filter(u8::is_ascii_hexdigit).collect();
    let bytes = digits.chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    DUMPED.with_borrow_mut(|dumped| {
        dumped.extend(bytes.map(char::from));
        let mut from = dumped.len().saturating_sub(1000);
        while !dumped.is_char_boundary(from) {
            from += 1;
        }
        dumped.drain(..from);
        dumped.clone()
    })
}

fn is_of_ureq(target: &str) -> bool {
    target.starts_with("ureq")
}

impl Subscriber for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !is_a_reactor(metadata.target())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        span.record(&mut text);
        self.hear(span.metadata().target(), &text.0);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut text = Text::default();
        values.record(&mut text);
        self.hear("a span", &text.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.hear(event.metadata().target(), &text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl log::Log for Watch {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let dumps = metadata.level() == log::Level::Trace && is_of_ureq(metadata.target());
        !is_a_reactor(metadata.target()) && (!dumps || DUMPS.load(Ordering::SeqCst))
    }

    fn log(&self, record: &log::Record<'_>) {
        if !log::Log::enabled(self, record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        match record.target().starts_with("ureq_proto") && record.level() == log::Level::Trace {
            true => self.hear(record.target(), &joined(&text)),
            false => self.hear(record.target(), &text),
        }
    }

    fn flush(&self) {}
}

/// All fields, one after another.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{field}={value} ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_secret_and_what_is_not() {
        for secret in [
            "user:swordfish",
            "Basic dXNlcjp3cm9uZ3dyb25n",
            "authorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln",
            "https://storage/x?a=b&X-Amz-Signature=c",
        ] {
            assert!(found_in(secret).is_some(), "{secret}");
        }
        for fine in ["Bearer realm=\"https://registry.example/token\"", "Basic realm=\"here\"", "https://t/token?…"] {
            assert_eq!(found_in(fine), None, "{fine}");
        }
    }

    #[test]
    fn both_kinds_of_logs_are_heard() {
        watch();
        register("a-canary-of-its-own");
        tracing::trace!(user = "me", "with {}", "a-canary-of-its-own");
        log::trace!("with a-canary-of-its-own");
        let heard = std::mem::take(&mut *lock(&HEARD));
        assert_eq!(heard.len(), 2, "{heard:?}");
    }
}
