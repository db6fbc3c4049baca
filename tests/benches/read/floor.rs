//! The floors: the requests of a pull and of a copy over bare sockets, and nothing else. No hashing, no checks, no archive
//! around the blobs, nothing waited for to be on the disk. What a client needs beyond this time is its own doing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use registry_proto::Digester;
use registry_proto::spec::Algorithm;
use registry_tests::bench::wire::{ACCEPT, Body, Connection, spread};
use serde_json::Value;

/// A blob, and where it goes in the file: behind those that the manifest names before it.
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) at: u64,
}

/// What a manifest names, the config first, then the layers in order.
pub(crate) fn blobs(manifest: &[u8]) -> io::Result<Vec<Blob>> {
    let manifest: Value = serde_json::from_slice(manifest)?;
    let named = [&manifest["config"]].into_iter().chain(manifest["layers"].as_array().into_iter().flatten());
    let mut end = 0;
    let blob = |named: &Value| {
        let size = named["size"].as_u64()?;
        end += size;
        Some(Blob { digest: named["digest"].as_str()?.to_owned(), size, at: end - size })
    };
    named.map(blob).collect::<Option<_>>().ok_or_else(|| io::Error::other("no image"))
}

/// The manifest, its type, and what it names, the largest last.
fn look(from: &mut Connection, repository: &str) -> io::Result<(Vec<u8>, Vec<Blob>)> {
    let mut manifest = Vec::new();
    from.fetch(&format!("/v2/{repository}/manifests/1"), ACCEPT, &mut |bytes| {
        manifest.extend_from_slice(bytes);
        Ok(())
    })?;
    let mut blobs = blobs(&manifest)?;
    blobs.sort_by_key(|blob| blob.size);
    Ok((manifest, blobs))
}

/// Pulls into a file: `GET` of the manifest, and of every blob; with a look whether it is the right one, if that is wanted.
pub(crate) fn pull(host: &str, repository: &str, out: &Path, hashing: bool) -> io::Result<()> {
    let mut first = Connection::open(host)?;
    let (_, blobs) = look(&mut first, repository)?;
    let file = File::create(out)?;
    let fetch = |connection: &mut Connection, blob: Blob| {
        let mut at = blob.at;
        let mut digester = hashing.then(|| Digester::new(Algorithm::Sha256));
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        connection.fetch(&path, "", &mut |bytes| {
            file.write_all_at(bytes, at)?;
            if let Some(digester) = &mut digester {
                digester.feed(at - blob.at, bytes).map_err(io::Error::other)?;
            }
            at += bytes.len() as u64;
            Ok(())
        })?;
        match digester {
            Some(digester) if digester.digest().as_str() != blob.digest => Err(io::Error::other("another blob")),
            _ => Ok(()),
        }
    };
    spread(first, || Connection::open(host), blobs, fetch).map(drop)
}

/// Copies within a registry: `GET` of the manifest, `POST` of a mount for every blob, `PUT` of the manifest.
pub(crate) fn mount(host: &str, repository: &str, to: &str) -> io::Result<()> {
    let mut first = Connection::open(host)?;
    let (manifest, blobs) = look(&mut first, repository)?;
    let mount = |connection: &mut Connection, blob: Blob| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={}&from={repository}", blob.digest);
        connection.ask("POST", &path, "", Some(Body::Bytes(b"")))?.expect(201).map(drop)
    };
    first = spread(first, || Connection::open(host), blobs, mount)?;
    put(&mut first, to, &manifest)
}

/// Copies between registries: `GET` of the manifest; of every blob `POST`, `GET` from here and `PUT` to there at the same
/// time; `PUT` of the manifest.
pub(crate) fn pipe(host: &str, repository: &str, to_host: &str, to: &str) -> io::Result<()> {
    let mut source = Connection::open(host)?;
    let (manifest, blobs) = look(&mut source, repository)?;
    let pipe = |(from, into): &mut (Connection, Connection), blob: Blob| {
        let started = into.ask("POST", &format!("/v2/{to}/blobs/uploads/"), "", Some(Body::Bytes(b"")))?;
        let location = started.expect(202)?.location.ok_or_else(|| io::Error::other("no Location"))?;
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let body = Body::Piped { from, path: &path, size: blob.size };
        let kind = "Content-Type: application/octet-stream\r\n";
        into.ask("PUT", &format!("{location}&digest={}", blob.digest), kind, Some(body))?.expect(201).map(drop)
    };
    let open = || Ok((Connection::open(host)?, Connection::open(to_host)?));
    let (_, mut first) = spread((source, Connection::open(to_host)?), open, blobs, pipe)?;
    put(&mut first, to, &manifest)
}

fn put(connection: &mut Connection, to: &str, manifest: &[u8]) -> io::Result<()> {
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let put = connection.ask("PUT", &format!("/v2/{to}/manifests/1"), kind, Some(Body::Bytes(manifest)))?;
    put.expect(201).map(drop)
}
