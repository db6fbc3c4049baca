//! Image archives.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use registry_proto::archive::make::{MemoryDisk, TarMaker};
use registry_proto::archive::{Archive, BlobContent, Examined, Feed, Limits};
use registry_proto::flow::ReadFeed;
use registry_proto::spec::{Digest, Manifest};
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::simulation::Simulation;
use registry_proto::{Config, Session};

use super::is_printable;

/// A tar as it is, and with the sums of its headers made right, so that more of a forged one is looked at.
pub fn tar(data: &[u8]) {
    let mut mended = data.to_vec();
    for record in mended.chunks_exact_mut(512) {
        if record[257..].starts_with(b"ustar") {
            let sum: u32 = record
                .iter()
                .enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                .sum();
            record[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    look(&MemoryDisk::with("x", Bytes::copy_from_slice(data)), Path::new("x"));
    look(&MemoryDisk::with("x", mended), Path::new("x"));
}

/// An archive as text, which becomes a tar and a folder: each line `@ name` begins a file. In names and contents `$d0;` is the
/// hexadecimal digest of the first file and `$s0;` its size, so that documents can be forged and still point to what is there.
pub fn archive(data: &[u8]) {
    let files = files(data);
    let mut tar = TarMaker::new();
    for (name, content) in &files {
        // A name that is no text, or too long, is what the other target is for.
        if !name.is_empty() && name.len() < 100 && !name.contains('\0') {
            tar = tar.file(name, content);
        }
    }
    look(&MemoryDisk::with("x", tar.finish()), Path::new("x"));
    let folder: BTreeMap<PathBuf, Bytes> =
        files.into_iter().filter(|(name, _)| is_plain(name)).map(|(name, content)| (name.into(), content)).collect();
    look(&MemoryDisk::folder("x", folder), Path::new("x"));
}

/// A name that stays below its folder.
fn is_plain(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn files(data: &[u8]) -> Vec<(String, Bytes)> {
    let text = String::from_utf8_lossy(data);
    let mut files: Vec<(String, Bytes)> = Vec::new();
    for entry in text.strip_prefix("@ ").unwrap_or_default().split("\n@ ").take(64) {
        let (name, content) = entry.split_once('\n').unwrap_or((entry, ""));
        let (name, content) = (filled(name, &files), filled(content, &files));
        files.push((name, content.into()));
    }
    files
}

/// With what the places stand for that are kept free for it.
fn filled(text: &str, files: &[(String, Bytes)]) -> String {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let meant = part.split_once(';').and_then(|(place, rest)| {
            let (_, content) = files.get(place.get(1..)?.parse::<usize>().ok()?)?;
            match place.get(..1)? {
                "d" => Some((Digest::of(content).encoded().to_owned(), rest)),
                "s" => Some((content.len().to_string(), rest)),
                "b" => Some((content.iter().map(|byte| char::from(*byte)).collect(), rest)),
                _ => None,
            }
        });
        match meant {
            // What grows and grows is cut: sixty files could stand for each other.
            Some((text, rest)) if out.len() + text.len() < 64 << 10 => {
                out.push_str(&text);
                out.push_str(rest);
            }
            _ => {
                out.push('$');
                out.push_str(part);
            }
        }
    }
    out
}

fn look(disk: &MemoryDisk, path: &Path) {
    let path: Arc<Path> = path.into();
    let small = Limits {
        entries: 12,
        names: 400,
        name: 80,
        pax: 512,
        index: 900,
        manifest: 600,
        config: 600,
        documents: 2000,
        images: 2,
        tags: 2,
        layers: 2,
        links: 2,
        depth: 1,
        ..Limits::default()
    };
    for limits in [Limits::default(), small] {
        let Examined { archive, faults } = Archive::examine(disk, &path, &limits);
        assert!(archive.is_some() || !faults.is_empty());
        if let Some(tar) = disk.0.get(&*path) {
            goes_by(tar, &limits, archive.as_ref().filter(|_| faults.is_empty()));
        }
        for fault in faults {
            let text = fault.to_string();
            assert!(is_printable(&text), "{text:?}");
        }
        if let Some(archive) = archive {
            holds(disk, &archive, &limits);
        }
    }
}

/// What goes by whole is what it is as a file, too: there are no two readers that see two archives (A22).
fn goes_by(tar: &Bytes, limits: &Limits, file: Option<&Archive>) {
    let mut config = Config::default();
    config.archive = *limits;
    let mut world = Simulation::new(1, Registry::new(Profile::strict()), MemoryDisk::default());
    let feed = Feed::new("x", Cursor::new(tar.clone()));
    match world.run(&mut Session::new(config, 1), ReadFeed::new(feed)).result {
        Ok(Examined { archive: Some(archive), faults }) if faults.is_empty() => {
            let file = file.expect("a file with faults went by without any");
            assert_eq!((archive.kind(), archive.images()), (file.kind(), file.images()));
            let sizes = |archive: &Archive| -> Vec<_> {
                archive.blobs().map(|blob| (blob.digest().clone(), blob.size())).collect()
            };
            assert_eq!(sizes(&archive), sizes(file));
        }
        Ok(found) => {
            for fault in found.faults {
                let text = fault.to_string();
                assert!(is_printable(&text), "{text:?}");
            }
        }
        Err(why) => assert!(is_printable(&why.to_string()), "{why}"),
    }
}

/// What is described is there, and within its limits.
fn holds(disk: &MemoryDisk, archive: &Archive, limits: &Limits) {
    assert!((1..=limits.images).contains(&archive.images().len()));
    assert!(archive.notes().iter().all(|note| is_printable(note)), "{:?}", archive.notes());
    for image in archive.images() {
        for manifest in image.manifests() {
            assert_eq!(*manifest.digest(), digest_like(manifest.digest(), manifest.bytes()));
            let layers = manifest.image().map_or(0, |image| image.layer_count());
            assert!(layers <= limits.layers && manifest.bytes().len() <= limits.manifest.max(limits.index));
        }
        for name in image.names() {
            assert!(is_printable(name.as_written()) && name.reference().is_some() | name.tag().is_some());
        }
        for digest in image.blob_digests() {
            assert!(digest.is_verifiable());
        }
        let root: &Manifest = image.root();
        assert!(root.media_type().is_manifest_or_index(), "{}", root.media_type());
    }
    for blob in archive.blobs() {
        assert!(archive.blob(blob.digest()) == Some(blob) && blob.digest().is_verifiable());
        match blob.content() {
            BlobContent::Bytes(bytes) => {
                assert_eq!(
                    (bytes.len() as u64, digest_like(blob.digest(), bytes)),
                    (blob.size(), blob.digest().clone())
                );
            }
            BlobContent::Passed { .. } => panic!("nothing goes by here"),
            BlobContent::File { path, range } => {
                let file = disk.0.get(&**path).unwrap_or_else(|| panic!("{} is not there", path.display()));
                assert!(path.starts_with(archive.path()), "{}", path.display());
                assert!(range.start <= range.end && range.end <= file.len() as u64, "{range:?} of {}", file.len());
                assert_eq!(range.end - range.start, blob.size());
            }
        }
    }
}

/// The digest of some bytes, by the same algorithm as another one.
fn digest_like(other: &Digest, bytes: &[u8]) -> Digest {
    Digest::compute(other.algorithm().expect("nothing else is taken in"), bytes)
}
