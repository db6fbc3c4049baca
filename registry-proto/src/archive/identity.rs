//! What tells one archive from another, and from itself before it was changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::{Archive, BlobContent};
use crate::spec::Digest;

/// A digest of the table of contents, and of when the files that blobs are in were written last, where the disk knows that:
/// what was changed without changing its place would not be seen otherwise before all of it was read.
pub(super) fn of(archive: &Archive, written_at: impl Fn(&Path) -> Option<Duration>) -> Digest {
    let mut written: BTreeMap<&Path, Option<Duration>> = BTreeMap::new();
    let mut text = format!("{:?}\n", archive.kind);
    // (Writing to a string doesn't fail.)
    for image in &archive.images {
        _ = writeln!(text, "{}", image.root().digest());
    }
    for blob in archive.blobs.values() {
        _ = write!(text, "{} {}", blob.digest, blob.size);
        if let BlobContent::File { path, range } = &blob.content {
            // One that can't be told the time of is still a file: what is wrong with it shows when it is read.
            let time = *written.entry(path).or_insert_with(|| written_at(path));
            _ = write!(text, " {} {time:?}", range.start);
        }
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}
