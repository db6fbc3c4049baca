//! The floor: the requests of a push over bare sockets, and nothing else. No hashing, no checks, no archive to read, one
//! fixed buffer per connection. What a client needs beyond this time is its own doing.

use std::fs::File;
use std::io;
use std::path::Path;

use registry_tests::bench::wire::{Body, Connection, spread};

use crate::workload::{Blob, Plan};

/// Pushes what a plan names.
pub(crate) fn push(plan: &Path, host: &str, repository: &str) -> io::Result<()> {
    let plan = Plan::read(plan);
    let mut first = Connection::open(host)?;
    let manifest = |reference: &str| format!("/v2/{repository}/manifests/{reference}");
    if first.ask("HEAD", &manifest(&plan.digest), "", None)?.status == 200 {
        if first.ask("HEAD", &manifest("1"), "", None)?.digest.as_ref() == Some(&plan.digest) {
            return Ok(());
        }
    } else {
        let mut blobs: Vec<&Blob> = plan.blobs.iter().collect();
        blobs.sort_by_key(|blob| blob.size);
        // The largest are taken first.
        first =
            spread(first, || Connection::open(host), blobs, |connection, blob| upload(connection, repository, blob))?;
    }
    let kind = format!("Content-Type: {}\r\n", plan.media_type);
    let body = Body::Bytes(plan.manifest.as_bytes());
    first.ask("PUT", &manifest("1"), &kind, Some(body))?.expect(201)?;
    Ok(())
}

fn upload(connection: &mut Connection, repository: &str, blob: &Blob) -> io::Result<()> {
    if connection.ask("HEAD", &format!("/v2/{repository}/blobs/{}", blob.digest), "", None)?.status == 200 {
        return Ok(());
    }
    let started = connection.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", Some(Body::Bytes(b"")))?;
    let location = started.expect(202)?.location.ok_or_else(|| io::Error::other("no Location"))?;
    let body = Body::File { file: File::open(&blob.path)?, offset: blob.offset, size: blob.size };
    let kind = "Content-Type: application/octet-stream\r\n";
    connection.ask("PUT", &format!("{location}&digest={}", blob.digest), kind, Some(body))?.expect(201).map(drop)
}
