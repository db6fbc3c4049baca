//! Archives that go by: standard input, and tars that are compressed.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use bytes::Bytes;
use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{command, err, json, out, printed, runtime, tug};

struct World {
    server: Server,
    _runtime: Runtime,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let runtime = runtime();
        let registry = Registry::new(Profile::distribution_3());
        let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
        Self { server, _runtime: runtime, folder: TempDir::new().unwrap() }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn to(&self, name: &str) -> String {
        format!("{}/{name}", self.server.address())
    }
}

fn layer() -> Vec<u8> {
    (0..400_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn archive() -> Bytes {
    make::docker_save_legacy(&[SampleImage::new(&["app:v1", "app:v2"], &[&layer(), b"small"])])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let pipe = Stdio::piped;
    let mut child = command().args(arguments).stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    // A command that has seen enough may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_and_compressed_tars_are_pushed_as_the_tar_itself() {
    let world = World::new();
    let plain = world.write("app.tar", &archive());
    let digest = out(&tug(&["digest", &plain])).to_owned();
    for (name, bytes) in [("tar", archive().to_vec()), ("gz", gzip(&archive())), ("zst", zstd(&archive()))] {
        let path = world.write(&format!("app.tar.{name}"), &bytes);
        let pushed = tug(&["push", &path, &world.to(&format!("file-{name}:v1"))]);
        assert_eq!(out(&pushed), digest, "{name}");
        let pushed = fed(&["push", "-", &world.to(&format!("input-{name}:v1"))], &bytes);
        assert_eq!(out(&pushed), digest, "{name}");
        assert!(err(&pushed).contains("3 of 3 blobs sent"), "{pushed:?}");
        for repository in [format!("file-{name}"), format!("input-{name}")] {
            let blob = registry_proto::spec::Digest::of(&layer());
            let held = world.server.registry(|registry| registry.blob(&repository, blob.as_str()));
            assert_eq!(held.as_deref(), Some(&layer()[..]), "{repository}");
        }
        assert_eq!(out(&tug(&["digest", &path])), digest);
        assert_eq!(out(&fed(&["digest", "-"], &bytes)), digest);
        assert_eq!(out(&tug(&["validate", &path])), "ok\n", "{name}");
        assert_eq!(out(&fed(&["validate", "-"], &bytes)), "ok\n", "{name}");
        assert!(out(&fed(&["inspect", "-"], &bytes)).contains("app:v2"), "{name}");
    }
    // A compressed tar goes where it says, too, and what is there is not sent.
    let packed = world.write("app.tar.gz", &gzip(&archive()));
    let dry = json(&tug(&["push", &packed, "--prefix", &world.to("below"), "--dry-run", "--format", "json"]));
    assert_eq!(dry["missing"].as_array().map(Vec::len), Some(3), "{dry}");
    let pushed = tug(&["push", &packed, "--prefix", &world.to("below")]);
    assert_eq!(out(&pushed).lines().count(), 2);
    let again: Value = json(&tug(&["push", &packed, &world.to("below/app:v3"), "--format", "json"]));
    assert_eq!((&again["sent"], &again["sentBytes"]), (&0.into(), &0.into()), "{again}");
}

#[test]
fn standard_input_needs_somewhere_to_go() {
    let world = World::new();
    for (arguments, says) in [
        (&["push", "-"][..], "tug push - "),
        (&["push", "-", "--prefix", "127.0.0.1:1/x"], "save it to a file"),
        (&["push", "-", "127.0.0.1:1/x", "-u", "me", "--password-stdin"], "log in first"),
    ] {
        let failed = fed(arguments, &archive());
        assert_eq!(failed.status.code(), Some(2), "{failed:?}");
        assert!(err(&failed).contains(says), "{says}: {failed:?}");
    }
    let two = make::docker_save_legacy(&[SampleImage::new(&["a:1"], &[b"1"]), SampleImage::new(&["b:1"], &[b"2"])]);
    let several = fed(&["push", "-", &world.to("x:v1")], &two);
    assert!(err(&several).contains("holds 2 images (a:1, b:1)") && printed(&several).is_empty(), "{several:?}");
    out(&fed(&["push", "-", &world.to("x:v1"), "--image", "b:1"], &two));
}

#[test]
fn what_is_wrong_with_them_is_said() {
    let world = World::new();
    let to = world.to("app:v1");
    let whole = archive();
    let packed = gzip(&whole);
    let cut = world.write("cut.tar.gz", &packed[..packed.len() / 2]);
    let mut flipped = zstd(&whole);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let flipped = world.write("flipped.tar.zst", &flipped);
    let other = world.write("app.tar.xz", b"\xfd7zXZ\0 and so on, and so on");
    for (archive, says) in [(&cut, "breaks off at byte"), (&flipped, "`"), (&other, "unxz")] {
        let failed = tug(&["push", archive, &to]);
        assert!(failed.status.code() == Some(1) && err(&failed).contains(says), "{archive}: {failed:?}");
        assert!(err(&failed).contains(Path::new(archive).file_name().unwrap().to_str().unwrap()), "{failed:?}");
        let found = tug(&["validate", archive]);
        assert!(found.status.code() == Some(1) && printed(&found).contains(says), "{archive}: {found:?}");
    }
    let nothing = fed(&["push", "-", &to], b"");
    assert!(err(&nothing).contains("it is empty"), "{nothing:?}");
    let text = fed(&["push", "-", &to], b"just some text");
    assert!(err(&text).contains("`standard input` is not an image archive"), "{text:?}");
    assert_eq!(world.server.registry(|registry| (registry.tags("app").len(), registry.open_uploads())), (0, 0));
}

/// C101: next to nothing that becomes more than there is room for.
#[test]
fn a20_a_bomb_of_gzip_and_of_zstd() {
    let world = World::new();
    let zeros = vec![0; 300 << 20];
    for (name, bomb) in [("bomb.tar.gz", gzip(&tar_of(&zeros))), ("bomb.tar.zst", zstd(&tar_of(&zeros)))] {
        assert!(bomb.len() < 2 << 20, "{name} has {} bytes", bomb.len());
        let path = world.write(name, &bomb);
        let failed = tug(&["push", &path, &world.to("app:v1")]);
        assert!(failed.status.code() == Some(1) && err(&failed).contains("200 times its own size"), "{failed:?}");
        let fed = fed(&["validate", "-"], &bomb);
        assert!(printed(&fed).contains("decompress it first"), "{fed:?}");
    }
}

/// A tar with one file.
fn tar_of(bytes: &[u8]) -> Bytes {
    make::TarMaker::new().file("layer.tar", bytes).finish()
}

/// Layers become smaller, manifests new, and what they unpack to stays what it was.
#[test]
fn layers_are_compressed_on_their_way() {
    let world = World::new();
    let layer = tar_of(&[b'x'; 2_000_000]);
    let little = tar_of(b"a little");
    let image = || SampleImage::new(&["app:v1"], &[&layer, &little, b"no tar at all"]);
    let other = image().on("linux", "arm64");
    let plain = world.write("app.tar", &make::docker_save_legacy(&[image()]));
    let index = world.write("index.tar", &make::multi_platform_archive(&[image(), other]));
    for format in ["gzip", "zstd"] {
        let file = world.to(&format!("file-{format}:v1"));
        let pushed = tug(&["push", &plain, &file, "--compress", format]);
        assert!(
            err(&pushed).contains("2 layers were compressed, so that manifests and digests are new ones"),
            "{pushed:?}"
        );
        assert_ne!(out(&pushed), out(&tug(&["digest", &plain])));
        let shown = json(&tug(&["inspect", &file, "--format", "json"]));
        let first = &shown["layers"][0];
        assert!(first["mediaType"].as_str().unwrap().ends_with(format), "{shown}");
        assert!(first["size"].as_u64().unwrap() < 20_000, "{shown}");
        assert!(shown["layers"][1]["mediaType"].as_str().unwrap().ends_with(format), "{shown}");
        assert!(shown["layers"][2]["mediaType"].as_str().unwrap().ends_with("tar"), "{shown}");
        let (repository, digest) = (world.to(&format!("file-{format}")), first["digest"].as_str().unwrap());
        let blob = tug(&["blob", &format!("{repository}@{digest}")]);
        assert!(blob.status.success(), "{blob:?}");
        let mut unpacked = Vec::new();
        match format {
            "gzip" => _ = flate2::read::GzDecoder::new(&blob.stdout[..]).read_to_end(&mut unpacked).unwrap(),
            _ => unpacked = zstd::stream::decode_all(&blob.stdout[..]).unwrap(),
        }
        assert!(unpacked == layer, "{format}: other bytes came out");
        // The same by standard input, and once more: the same digests.
        let input = std::fs::read(&plain).unwrap();
        let piped = fed(&["push", "-", &world.to(&format!("input-{format}:v1")), "--compress", format], &input);
        assert_eq!(out(&piped), out(&pushed), "{format}");
        // Of an index, everything below it changes.
        let all = world.to(&format!("index-{format}:v1"));
        out(&tug(&["push", &index, &all, "--compress", format]));
        let back = world.folder.path().join(format!("{format}.tar"));
        let back = back.to_str().unwrap();
        out(&tug(&["pull", &all, back, "--all-platforms"]));
        assert_eq!(out(&tug(&["validate", back])), "ok\n");
    }
    let folder = tug(&["push", world.folder.path().to_str().unwrap(), &world.to("x:v1"), "--compress", "gzip"]);
    assert!(folder.status.code() == Some(2) && err(&folder).contains("--compress takes a tar"), "{folder:?}");
}

#[test]
fn of_several_platforms_one_can_be_pushed() {
    let world = World::new();
    let images = [("linux", "amd64"), ("linux", "arm64")]
        .map(|(os, machine)| SampleImage::new(&["app:v1"], &[machine.as_bytes()]).on(os, machine));
    let path = world.write("multi.tar", &make::multi_platform_archive(&images));
    let pushed = tug(&["push", &path, &world.to("one:v1"), "--platform", "linux/arm64"]);
    let manifest = out(&pushed).trim_end().to_owned();
    let whole = tug(&["push", &path, &world.to("all:v1")]);
    assert_ne!(out(&whole).trim_end(), manifest);
    let shown = tug(&["inspect", &world.to("one:v1")]);
    assert!(out(&shown).contains("linux/arm64") && !out(&shown).contains("amd64"), "{shown:?}");
    assert_eq!(world.server.registry(|registry| registry.manifests("one").len()), 1);
    let none = tug(&["push", &path, &world.to("none:v1"), "--platform", "plan9/mips"]);
    assert!(
        none.status.code() == Some(1) && err(&none).contains("its platforms are: linux/amd64, linux/arm64"),
        "{none:?}"
    );
}
