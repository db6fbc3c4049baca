//! What an error of a socket means, by when it came.

use std::io::ErrorKind;

use crate::job::{FailureKind, Phase};

/// How far a driver has come with a connection when its socket reports an error. The same error means that nothing was sent, or
/// that anything may have arrived.
///
/// ```
/// use std::io::ErrorKind;
/// use registry_proto::job::{FailureKind, Stage};
///
/// // On the way out there was no route; of a connection that had one, nobody knows what came through.
/// assert_eq!(Stage::Connecting.kind_of(ErrorKind::HostUnreachable), FailureKind::Connect);
/// assert_eq!(Stage::Exchanging.kind_of(ErrorKind::HostUnreachable), FailureKind::Cut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A name is looked up, a socket connected.
    Connecting,
    /// TLS is being agreed on. What is wrong with certificates and versions, the TLS library says itself: that is
    /// [`FailureKind::Tls`], and final. What is left is an accident of the line.
    Handshaking,
    /// A request or its reply is under way.
    Exchanging,
}

impl Stage {
    /// The kind of failure that an error of this kind is now.
    pub const fn kind_of(self, why: ErrorKind) -> FailureKind {
        match (self, why) {
            (Self::Connecting | Self::Handshaking, ErrorKind::TimedOut) => FailureKind::Timeout(Phase::Connect),
            (Self::Connecting | Self::Handshaking, _) => FailureKind::Connect,
            (Self::Exchanging, ErrorKind::TimedOut) => FailureKind::Timeout(Phase::Body),
            (Self::Exchanging, ErrorKind::InvalidData) => FailureKind::Protocol,
            (Self::Exchanging, _) => FailureKind::Cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Failure;

    const LINE: [ErrorKind; 9] = [
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::AddrNotAvailable,
        ErrorKind::PermissionDenied,
        ErrorKind::UnexpectedEof,
        ErrorKind::TimedOut,
        ErrorKind::Other,
    ];

    #[test]
    fn only_before_a_request_is_it_certain_that_nothing_was_sent() {
        for why in LINE {
            let at = |stage: Stage| Failure::new(stage.kind_of(why), "");
            for stage in [Stage::Connecting, Stage::Handshaking] {
                assert!(at(stage).sent_nothing() && at(stage).is_transient(), "{stage:?} {why}");
            }
            assert!(!at(Stage::Exchanging).sent_nothing() && at(Stage::Exchanging).is_transient(), "{why}");
        }
    }
}
