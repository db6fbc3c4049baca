//! What is durable of a pull: what its references led to when it began.

use super::{Platforms, PullOptions};
use crate::snapshot::{Aim, Facts, PullFacts, Snapshot, SnapshotError, SnapshotFault};
use crate::spec::{Digest, Platform, Reference};

#[derive(Debug)]
pub(super) struct Record {
    of: Aim,
    /// What an earlier process has found that the references lead to, in their order.
    pub(super) roots: Option<Vec<Digest>>,
}

impl Record {
    /// Of a pull that goes on from `before`, if there is such a thing.
    ///
    /// # Errors
    /// Why it can't.
    pub(super) fn new(
        references: &[Reference],
        options: &PullOptions,
        before: Option<Snapshot>,
    ) -> Result<Self, SnapshotError> {
        let of = aim(references, options);
        let Some(before) = before else { return Ok(Self { of, roots: None }) };
        let before = before.into_pull()?;
        before.of.check(&of, "pull of")?;
        if before.roots.len() != references.len() {
            let why = "a digest is missing".to_owned();
            return Err(SnapshotError::new(SnapshotFault::Damaged(why)));
        }
        Ok(Self { of, roots: Some(before.roots) })
    }

    /// The reference that leads, whatever has happened to the tag, to what it led to when the pull began.
    pub(super) fn pinned(&self, at: usize, reference: &Reference) -> Reference {
        match self.roots.as_ref().and_then(|roots| roots.get(at)) {
            Some(root) => reference.clone().with_digest(root.clone()),
            None => reference.clone(),
        }
    }

    pub(super) fn snapshot(&self, roots: Vec<Digest>) -> Snapshot {
        Snapshot::new(Facts::Pull(PullFacts { of: self.of.clone(), roots }))
    }
}

/// What is pulled, for whom, and what becomes of it.
fn aim(references: &[Reference], options: &PullOptions) -> Aim {
    let platforms = match &options.platforms {
        Platforms::ThisMachine => format!("{} or the only one", Platform::of_this_machine()),
        Platforms::Only(platform) => platform.to_string(),
        Platforms::All => "all platforms".to_owned(),
    };
    let names: Vec<String> = references.iter().map(Reference::to_string).collect();
    // The order counts: the digests have the same.
    let mut lines: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("{at} {name}")).collect();
    let how = format!("{platforms}, {:?}", options.format);
    lines.push(how.clone());
    Aim::new(lines, names.iter().chain([&format!("({how})")]))
}
