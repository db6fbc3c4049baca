//! The session of an upload, which may outlive it and its process.

use http::Uri;

use super::Upload;
use crate::error::Error;
use crate::event::Event;
use crate::snapshot::{SnapshotError, SnapshotFault, UploadSession};
use crate::spec::same_origin;

impl Upload {
    /// To be gone on with later, and to go on in this session, if there is one.
    ///
    /// # Errors
    /// [`Error::Snapshot`] when the session is not where the blob goes to.
    pub fn resumable(mut self, before: Option<UploadSession>) -> Result<Self, Error> {
        self.before = match before {
            None => None,
            Some(session) => {
                let home = self.origin.at("/").ok_or_else(|| Error::Misuse(format!("{} is no place", self.origin)))?;
                let url = same_origin(&home, session.url());
                let url = url.map_err(|why| SnapshotError::new(SnapshotFault::Session(why.to_string())))?;
                // Who has begun to send it could not have it mounted.
                self.from = None;
                Some((url, session))
            }
        };
        self.told = self.before.as_ref().map(|(_, session)| session.clone());
        self.resumable = true;
        Ok(self)
    }

    /// The session is at this URL now, with the hints that it has now, or over.
    pub(super) fn session_is(&mut self, url: Option<Uri>) {
        let session = url.as_ref().map(|url| UploadSession::new(url, self.hints.min, self.hints.max));
        if self.resumable && self.told != session {
            self.told.clone_from(&session);
            self.notes.push_back(Event::Session { repository: self.repository.clone(), blob: self.id(), session });
        }
        self.before = None;
        self.session = url;
    }
}

/// Whether the upload may well be gone on with in the same session, once whatever has stopped it is over.
pub(super) fn may_pass(why: &Error) -> bool {
    why.is_transient() || matches!(why, Error::Cancelled | Error::Transport { .. } | Error::Denied(_))
}
