//! Where there is nobody to trust.

use std::fmt;

use crate::job::{Failure, FailureKind};

/// What a driver says when it knows no certificate authority at all, neither of the configuration nor of the operating system:
/// every peer would be refused, for a reason that is not the peer's. `why`: the first error of looking for the system's.
pub fn no_authorities<E: fmt::Display>(why: Option<E>) -> Failure {
    let what = "no system authorities were found";
    match why {
        Some(why) => Failure::new(FailureKind::Tls, format_args!("{what}: {why}")),
        None => Failure::new(FailureKind::Tls, what),
    }
}
