//! An archive as the attacker (PROTOCOL §6, actor A): forged tars, names that lead out, links, bombs, documents that lie.
//!
//! Each test is named by the attacks that it is about; `registry-proto/THREATS.md` lists them all. What readers of tars disagree
//! about is tried case by case in the core's own tests (`archive/tests`).

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage, TarMaker};
use registry_proto::archive::{Archive, ArchiveFault, Disk, Examined, Limits, Opened};
use registry_proto::flow::{Destination, ExamineArchive, Push, PushOptions};
use registry_proto::job::FailureKind;
use registry_proto::spec::Digest;
use registry_proto::testing::registry::{Profile, Registry};
use registry_proto::testing::script::{Request, Script};
use registry_proto::{Config, Error, Session};
use registry_tests::hostile::{by, check_text, quick, run, texts};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};
use serde_json::json;

/// Pushes to `r.example/n:v1`: how that ended, what was asked, and what was told.
fn push(archive: Bytes) -> (Result<(), Error>, Vec<Request>, Vec<String>, Registry) {
    let mut registry = Registry::new(Profile::strict());
    let mut script =
        Script::new(|request: &Request| Ok(by(&mut registry, request))).with_disk(MemoryDisk::with("app.tar", archive));
    let to = Destination::Reference("r.example/n:v1".parse().unwrap());
    let flow = Push::new(Path::new("app.tar"), to, PushOptions::default());
    let result = script.run(&mut Session::new(Config::default(), 1), flow).map(drop);
    let (requests, told) = (script.requests().to_vec(), texts(script.events()));
    drop(script);
    (result, requests, told, registry)
}

#[track_caller]
fn refused(what: &str, archive: Bytes) -> String {
    let (result, requests, told, _) = push(archive);
    let Err(why) = result else { panic!("{what}: it was taken for good") };
    assert!(matches!(why, Error::Archive(_)), "{what}: {why}");
    assert_eq!(requests.len(), 0, "{what}: nobody was to be asked anything");
    let why = why.to_string();
    told.iter().chain([&why]).for_each(|text| check_text(text));
    why
}

fn image() -> SampleImage {
    SampleImage::new(&[], &[b"layer"])
}

/// A docker-archive of [`image`] whose layer is under this name, without the layer.
fn with_layer_at(name: &str) -> TarMaker {
    let list = json!([{"Config": "c.json", "RepoTags": ["n:v1"], "Layers": [name]}]);
    TarMaker::new().file("manifest.json", list.to_string().as_bytes()).file("c.json", &image().config())
}

/// Tells what was opened.
#[derive(Default)]
struct Spy {
    disk: MemoryDisk,
    opened: RefCell<Vec<PathBuf>>,
}

impl Disk for Spy {
    type File = <MemoryDisk as Disk>::File;

    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>> {
        self.opened.borrow_mut().push(path.to_owned());
        self.disk.open(path)
    }
}

#[test]
fn a21_names_are_names_and_never_paths() {
    // Whatever an archive's names, links and documents say, its own file is the only one that is opened.
    let names = [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../x",
        "C:\\windows\\x",
        "\\\\?\\C:\\x",
        "x\0/etc/passwd",
        "\u{1b}[31m",
    ];
    for name in names {
        let archives = [
            with_layer_at(name).finish(),
            with_layer_at("l").symlink("l", name).finish(),
            with_layer_at("l").hard_link("l", name).finish(),
            with_layer_at("l").symlink("l", "d/x").symlink("d", name).finish(),
            TarMaker::new()
                .file("manifest.json", json!([{"Config": name, "Layers": []}]).to_string().as_bytes())
                .finish(),
        ];
        for (n, archive) in archives.into_iter().enumerate() {
            refused(&format!("{name:?}, {n}"), archive.clone());
            let spy = Spy { disk: MemoryDisk::with("x.tar", archive), ..Spy::default() };
            let Examined { archive, .. } = Archive::examine(&spy, &Path::new("x.tar").into(), &Limits::default());
            assert!(archive.is_none());
            assert!(spy.opened.borrow().iter().all(|path| path == Path::new("x.tar")), "{:?}", spy.opened);
        }
    }
    // Nor is a name made to fit by taking away what is wrong with it.
    for name in ["../l", "/l", "a/../l", "./../l", "//l", "l\0"] {
        refused(name, with_layer_at(name).file("l", b"layer").finish());
        refused(name, with_layer_at("k").symlink("k", &format!("../{name}")).file("l", b"layer").finish());
    }
    // Entries that nobody asks for are left where they are.
    let strange = with_layer_at("l")
        .file("../../../etc/cron.d/x", b"* * * * * root evil")
        .symlink("away", "/")
        .file("away/etc/passwd", b"root::0:0::/:/bin/sh")
        .file("l", b"layer");
    let (result, ..) = push(strange.finish());
    result.unwrap();
}

/// An unpacked archive is a folder, and its links may lead anywhere: what they lead to has to have the right digest.
fn a21_a_folder_gives_away_nothing_else(runtime: Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let write = |name: &str| {
        let root = folder.path().join(name);
        for (path, content) in make::oci_folder(&[image()]) {
            fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        root
    };
    let content = make::gzip_stored(&image().layers[0]);
    let layer = |root: &Path| root.join("blobs/sha256").join(Digest::of(&content).encoded());
    let server = Server::start(Registry::new(Profile::strict()), |_| Answer::registry());
    let push = |root: PathBuf| {
        let to = Destination::Reference(format!("{}/n:v1", server.host()).parse().unwrap());
        run(runtime, quick(), Push::new(root, to, PushOptions::default()))
    };
    // Of the same length, and another content.
    let root = write("link");
    let other = [b"s3cr3t", &content[6..]].concat();
    fs::write(&secret, &other).unwrap();
    fs::remove_file(layer(&root)).unwrap();
    std::os::unix::fs::symlink(&secret, layer(&root)).unwrap();
    let why = push(root).result.unwrap_err();
    assert!(matches!(&why, Error::Local(why) if why.kind() == FailureKind::Mismatch), "{why}");
    assert!(server.registry().blob("n", Digest::of(&other).as_str()).is_none());
    assert_eq!(server.registry().ledger().mismatches, []);
    // A pipe, which would wait for ever, and a device, which would never end.
    let root = write("pipe");
    fs::remove_file(layer(&root)).unwrap();
    assert!(Command::new("mkfifo").arg(layer(&root)).status().unwrap().success());
    let ran = push(root);
    assert!(ran.result.is_err() && ran.took < Duration::from_secs(3), "{:?}", ran.result);
    for document in ["index.json", "oci-layout"] {
        let root = write(document);
        fs::remove_file(root.join(document)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.join(document)).unwrap();
        let ran = push(root);
        assert!(ran.result.is_err() && ran.took < Duration::from_secs(3), "{document}: {:?}", ran.result);
    }
}

#[test]
fn a22_a23_forged_tars() {
    let good = |name: &str| with_layer_at("l").file(name, b"layer");
    push(good("l").finish()).0.unwrap();
    for (what, archive) in [
        (
            "a PAX size that the header contradicts",
            with_layer_at("l").pax(&[("size", "1024")]).file("l", b"layer").finish(),
        ),
        (
            "a PAX size that hides an archive",
            with_layer_at("l").pax(&[("size", "0")]).file("l", &good("m").finish()).finish(),
        ),
        ("a name by PAX and another by GNU", {
            let maker = with_layer_at("l").pax(&[("path", "l")]);
            maker.entry(b'L', "././@LongLink", "", b"other\0").file("l", b"layer").finish()
        }),
        ("a sparse file", with_layer_at("l").pax(&[("GNU.sparse.size", "99999999999")]).file("l", b"layer").finish()),
        (
            "a size beyond all numbers",
            with_layer_at("l").pax(&[("size", "99999999999999999999")]).file("l", b"").finish(),
        ),
        ("a size beyond the file", with_layer_at("l").pax(&[("size", "9223372036854775807")]).file("l", b"").finish()),
        ("a name of a megabyte", good(&"n".repeat(1 << 20)).finish()),
    ] {
        refused(what, archive);
    }
    // Entries without end, under ever other names and under one.
    let limits = Limits { entries: 1000, ..Limits::default() };
    let names: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let other = names.iter().fold(good("l"), |maker, name| maker.file(name, b""));
    let same = (0..4001).fold(good("l"), |maker, _| maker.file("x", b""));
    for many in [other, same] {
        let disk = MemoryDisk::with("x.tar", many.finish());
        let fault = Archive::read(&disk, &Path::new("x.tar").into(), &limits).unwrap_err();
        assert!(matches!(fault.fault(), ArchiveFault::TooLarge { .. }), "{fault}");
        Archive::read(&disk, &Path::new("x.tar").into(), &Limits::default()).unwrap();
    }
}

#[test]
fn a24_documents_that_lie() {
    let layer = |maker: TarMaker| maker.file("l", b"layer");
    let other = Digest::of(b"other");
    let named = |config: &str, layer: &str| {
        let list = json!([{"Config": config, "RepoTags": ["n:v1"], "Layers": [layer]}]);
        TarMaker::new()
            .file("manifest.json", list.to_string().as_bytes())
            .file(config, &image().config())
            .file(layer, b"layer")
            .finish()
    };
    for (what, archive) in [
        ("two manifests", layer(with_layer_at("l")).file("manifest.json", b"[]").finish()),
        ("two manifests, and either would do", {
            let other = json!([{"Config": "c.json", "RepoTags": ["other:v1"], "Layers": ["l"]}]);
            layer(with_layer_at("l")).file("manifest.json", other.to_string().as_bytes()).finish()
        }),
        (
            "two configurations, and either would do",
            layer(with_layer_at("l")).file("c.json", &image().config()).finish(),
        ),
        ("two configurations", layer(with_layer_at("l")).file("./c.json", b"{}").finish()),
        ("a configuration under another's digest", named(&format!("{}.json", other.encoded()), "l")),
        ("a layer under another's digest", named("c.json", &format!("blobs/sha256/{}", other.encoded()))),
        ("a circle of links", with_layer_at("a").symlink("a", "b").symlink("b", "a").finish()),
        ("fewer layers than diff_ids", {
            let list = json!([{"Config": "c.json", "RepoTags": ["n:v1"], "Layers": []}]);
            TarMaker::new()
                .file("manifest.json", list.to_string().as_bytes())
                .file("c.json", &image().config())
                .finish()
        }),
    ] {
        refused(what, archive);
    }
    // What only its bytes tell: it is sent, but never to its end, and nothing is committed.
    let (result, _, _, registry) = push(with_layer_at("l").file("l", b"reyal").finish());
    assert!(matches!(result, Err(Error::Local(why)) if why.kind() == FailureKind::Mismatch));
    assert_eq!(registry.ledger().mismatches, []);
    assert!(registry.tags("n").is_empty() && registry.blob("n", Digest::of(b"reyal").as_str()).is_none());
}

#[test]
fn a12_a23_documents_that_are_too_large() {
    let deep = format!("{}{}", "[".repeat(300_000), "]".repeat(300_000));
    let layout = |index: &[u8]| {
        TarMaker::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index).finish()
    };
    refused("deep", TarMaker::new().file("manifest.json", deep.as_bytes()).finish());
    refused("a deep index", layout(deep.as_bytes()));
    refused("large", TarMaker::new().file("manifest.json", &vec![b' '; 21 << 20]).finish());
    refused("a large index", layout(&vec![b' '; 21 << 20]));
    let item = r#"{"Config":"c.json","Layers":["l"]}"#;
    let list = format!("[{}]", vec![item; 5000].join(","));
    refused(
        "many images",
        TarMaker::new().file("manifest.json", list.as_bytes()).file("c.json", &image().config()).finish(),
    );
    let layers = vec!["l"; 5000];
    let list = json!([{"Config": "c.json", "Layers": layers}]).to_string();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": vec![Digest::of(b"layer"); 5000]}}).to_string();
    let maker = TarMaker::new().file("manifest.json", list.as_bytes()).file("c.json", config.as_bytes());
    assert!(refused("many layers", maker.file("l", b"layer").finish()).contains("layers"));
    // An index that names itself can't be: it would have to know its own digest. One that names nothing but indexes can.
    let digest = Digest::of(b"x");
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 1}]});
    refused("an index of nothing", layout(index.to_string().as_bytes()));
}

/// A layer that would unpack to a thousand times its size is sent as it is: nothing here ever unpacks.
#[test]
fn a20_bombs_are_not_set_off() {
    // Ten thousand zeros, as gzip has them stored; the header is what counts.
    let bomb = make::gzip_stored(&[0; 10_000]);
    let list = json!([{"Config": "c.json", "RepoTags": ["n:v1"], "Layers": ["l.tar.gz"]}]);
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&[0; 10_000])]}});
    let archive = TarMaker::new()
        .file("manifest.json", list.to_string().as_bytes())
        .file("c.json", config.to_string().as_bytes())
        .file("l.tar.gz", &bomb)
        .finish();
    let (result, requests, _, registry) = push(archive);
    result.unwrap();
    assert_eq!(registry.blob("n", Digest::of(&bomb).as_str()).unwrap(), bomb);
    assert!(requests.iter().all(|request| request.body.len() <= bomb.len()));
    // The whole archive compressed is refused with a word on how to go on.
    for (head, tool) in [(&b"\x1f\x8b\x08"[..], "gunzip"), (b"\x28\xb5\x2f\xfd", "unzstd"), (b"\xfd7zXZ\0", "unxz")] {
        let archive = [head, &[0; 1000]].concat();
        assert!(refused(tool, archive.into()).contains(tool));
    }
}

/// Counts what is read of a file.
struct Counted<'a>(<MemoryDisk as Disk>::File, &'a Cell<u64>);

impl io::Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(buffer)?;
        self.1.set(self.1.get() + got as u64);
        Ok(got)
    }
}

impl io::Seek for Counted<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// A disk with one archive on it.
struct Counting(MemoryDisk, &'static Cell<u64>);

impl Disk for Counting {
    type File = Counted<'static>;

    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>> {
        Ok(match self.0.open(path)? {
            Opened::File { file, size } => Opened::File { file: Counted(file, self.1), size },
            Opened::Folder => Opened::Folder,
        })
    }
}

/// What tells where everything belongs comes after everything: nothing is held until then, nor read.
#[test]
fn a25_what_tells_comes_last() {
    let large = vec![7; 32 << 20];
    let image = SampleImage::new(&["n:v1"], &[&large]);
    let list = json!([{"Config": "c.json", "RepoTags": ["n:v1"], "Layers": ["l"]}]);
    let archive = TarMaker::new()
        .file("l", &large)
        .file("c.json", &image.config())
        .file("manifest.json", list.to_string().as_bytes())
        .finish();
    let read: &'static Cell<u64> = Box::leak(Box::default());
    let disk = Counting(MemoryDisk::with("x.tar", archive), read);
    let archive = Archive::read(&disk, &Path::new("x.tar").into(), &Limits::default()).unwrap();
    assert_eq!(archive.images().len(), 1);
    assert!(read.get() < 1 << 20, "{} bytes were read of an archive of 32 MiB", read.get());
}

#[test]
fn a38_names_in_archives_can_be_printed() {
    let odd = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{202e}evil\r\n\u{9b}2J";
    let long = "n".repeat(1 << 20);
    for name in [odd, &long] {
        let list = json!([{"Config": name, "RepoTags": [name], "Layers": [name]}]);
        refused("a docker-archive", TarMaker::new().file("manifest.json", list.to_string().as_bytes()).finish());
        let list = json!([{"Config": "c.json", "RepoTags": [name], "Layers": ["l"]}]);
        let archive = TarMaker::new()
            .file("manifest.json", list.to_string().as_bytes())
            .file("c.json", &image().config())
            .file("l", b"layer")
            .finish();
        // Its name is left out, with a remark.
        let (result, _, told, _) = push(archive.clone());
        result.unwrap();
        told.iter().for_each(|text| check_text(text));
        let mut script =
            Script::new(|_: &Request| unreachable!("nobody is asked")).with_disk(MemoryDisk::with("app.tar", archive));
        let found =
            script.run(&mut Session::new(Config::default(), 1), ExamineArchive::new(Path::new("app.tar"))).unwrap();
        let archive = found.archive.unwrap();
        assert!(archive.notes().iter().any(|note| note.contains("left out the name")), "{:?}", archive.notes());
        archive.notes().iter().for_each(|note| check_text(note));
    }
    let fault = Archive::read(
        &MemoryDisk::with("x.tar", with_layer_at(odd).finish()),
        &Path::new("x.tar").into(),
        &Limits::default(),
    );
    let fault = fault.unwrap_err();
    assert!(matches!(fault.fault(), ArchiveFault::Missing { .. } | ArchiveFault::Tar { .. }), "{fault}");
    check_text(&fault.to_string());
}

on_all_runtimes!(a21_a_folder_gives_away_nothing_else);
