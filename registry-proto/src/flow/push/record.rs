//! What is durable of a push: kept up to date while it runs, and held against what it goes on from.

use crate::archive::Archive;
use crate::event::BlobId;
use crate::flow::deliver::{Sessions, Target};
use crate::snapshot::{Aim, Facts, OpenSession, PushFacts, Snapshot, SnapshotError, SnapshotFault, UploadSession};
use crate::spec::{Digest, Reference, Repository};

#[derive(Debug)]
pub(super) struct Record {
    archive: Digest,
    to: Aim,
    sessions: Sessions,
}

impl Record {
    /// Of a push that goes on from `before`, if there is such a thing.
    ///
    /// # Errors
    /// Why it can't.
    pub(super) fn new(archive: &Archive, targets: &[Target], before: Option<Snapshot>) -> Result<Self, SnapshotError> {
        let mut record = Self { archive: archive.identity().clone(), to: aim(targets), sessions: Sessions::new() };
        let Some(before) = before else { return Ok(record) };
        let before = before.into_push()?;
        if before.archive != record.archive {
            let path = archive.path().display().to_string();
            return Err(SnapshotError::new(SnapshotFault::Archive(path)));
        }
        before.to.check(&record.to, "push to")?;
        for OpenSession { repository, blob, session } in before.sessions {
            let repository: Repository = repository
                .parse()
                .map_err(|_| SnapshotError::new(SnapshotFault::Damaged("a repository in it is none".to_owned())))?;
            record.sessions.insert((repository, blob), session);
        }
        Ok(record)
    }

    pub(super) const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Takes in what became of a session.
    pub(super) fn note(&mut self, repository: Repository, blob: BlobId, session: Option<UploadSession>) {
        let key = (repository, blob.digest);
        match session {
            Some(session) => _ = self.sessions.insert(key, session),
            None => _ = self.sessions.remove(&key),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let sessions = self.sessions.iter();
        let sessions =
            sessions.map(|((repository, blob), session)| OpenSession::new(repository, blob, session)).collect();
        Snapshot::new(Facts::Push(PushFacts { archive: self.archive.clone(), to: self.to.clone(), sessions }))
    }
}

/// Which manifests go where, under which names.
fn aim(targets: &[Target]) -> Aim {
    let (mut lines, mut names) = (Vec::new(), Vec::new());
    for target in targets {
        for reference in target.references() {
            lines.push(format!("{} {} {reference} {}", target.origin, target.repository, target.root.digest()));
            names.push(Reference::by(target.repository.clone(), reference).to_string());
        }
    }
    Aim::new(lines, &names)
}
