//! The command `tug` as its users meet it: what is typed, what is printed, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may as well stop")]

mod copy;
#[cfg(unix)]
mod denied;
mod going_by;
mod help;
#[cfg(unix)]
mod home;
mod inspect;
mod lists;
#[cfg(unix)]
mod login;
mod mistyped;
mod proxy;
mod pull;
mod push;
mod readme;
mod referrers;
#[cfg(unix)]
mod resume;
mod run;
mod serve;
#[cfg(unix)]
mod stopping;
#[cfg(unix)]
mod tls;
