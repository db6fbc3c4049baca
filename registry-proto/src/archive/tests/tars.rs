//! C97, C99, C100: links, forged headers, cut files.

use serde_json::json;
use tar::{EntryType, Header};

use super::super::make::TarMaker;
use super::*;

/// `manifest.json` and a config for one layer at `path`.
fn one_layer(path: &str) -> TarMaker {
    let image = SampleImage::new(&[], &[b"layer"]);
    TarMaker::new()
        .file("manifest.json", json!([{"Config": "c.json", "Layers": [path]}]).to_string().as_bytes())
        .file("c.json", &image.config())
}

fn header(name: &str, size: u64, change: impl Fn(&mut Header)) -> [u8; 512] {
    let mut header = Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    change(&mut header);
    header.set_cksum();
    *header.as_bytes()
}

#[test]
fn c97_links_are_resolved_inside_the_archive() {
    let ok = |maker: TarMaker| {
        let archive = read(maker.finish()).map_err(|e| e.to_string()).unwrap();
        assert!(archive.blob(&Digest::of(b"layer")).is_some_and(|blob| blob.size() == 5));
    };
    ok(one_layer("a/layer.tar").file("b/layer.tar", b"layer").symlink("a/layer.tar", "../b/layer.tar"));
    ok(one_layer("a/layer.tar").hard_link("a/layer.tar", "b/layer.tar").file("b/layer.tar", b"layer"));
    let chain = |n: usize| {
        let links = (0..n).fold(one_layer("0"), |maker, at| maker.symlink(&at.to_string(), &(at + 1).to_string()));
        links.file(&n.to_string(), b"layer")
    };
    ok(chain(8));
    assert!(matches!(fault(chain(9).finish()).0, ArchiveFault::Link { .. }));
    let bad = |maker: TarMaker| fault(maker.finish());
    let (cycle, text) = bad(one_layer("a").symlink("a", "b").symlink("b", "./a"));
    assert!(matches!(cycle, ArchiveFault::Link { .. }) && text.contains("leads back to itself"), "{text}");
    assert!(matches!(bad(one_layer("a").symlink("a", "a")).0, ArchiveFault::Link { .. }));
    for target in ["../../etc/passwd", "/etc/passwd", "../.."] {
        assert!(matches!(bad(one_layer("a/l").symlink("a/l", target)).0, ArchiveFault::Link { .. }), "{target}");
    }
    assert!(matches!(bad(one_layer("a").symlink("a", "gone")).0, ArchiveFault::Missing { .. }));
    assert!(matches!(bad(one_layer("a").hard_link("a", "../x")).0, ArchiveFault::Link { .. }));
}

#[test]
fn strange_entries_matter_only_when_they_are_asked_for() {
    let harmless = one_layer("l")
        .file("../../etc/passwd", b"x")
        .file("/abs", b"x")
        .entry(EntryType::Fifo.as_byte(), "pipe", "", b"")
        .symlink("away", "/etc/shadow")
        .entry(b'Z', "unknown", "", b"body")
        .file("l", b"old")
        .file("l", b"layer");
    assert_eq!(read(harmless.finish()).unwrap().blobs().count(), 2, "the last of two layers wins");
    for path in ["../l", "/l", "a/../l", "l\0"] {
        assert!(matches!(fault(one_layer(path).file("l", b"layer").finish()).0, ArchiveFault::Tar { .. }), "{path:?}");
    }
    assert!(matches!(fault(one_layer("abs").file("/abs", b"layer").finish()).0, ArchiveFault::Tar { .. }));
    assert!(matches!(
        fault(one_layer("l").file("l", b"layer").file("/manifest.json", b"[]").finish()).0,
        ArchiveFault::Tar { .. }
    ));
    let pipe = fault(one_layer("pipe").entry(EntryType::Fifo.as_byte(), "pipe", "", b"").finish()).1;
    assert!(pipe.contains("`pipe` is a device or pipe, not a file"), "{pipe}");
    assert!(fault(one_layer("d").folder("d/").finish()).1.contains("`d` is a folder"));
}

#[test]
fn c99_sizes_that_two_readers_would_see_differently() {
    for size in [0, 50] {
        let forged = one_layer("l").pax(&[("size", "100")]).raw(&header("l", size, |_| {})).padded(&[7; 100]);
        let (fault, text) = fault(forged.finish());
        assert!(matches!(fault, ArchiveFault::Tar { .. }) && text.contains("size 100 by its PAX header"), "{text}");
    }
    let same = one_layer("l").pax(&[("size", "5")]).file("l", b"layer");
    assert!(read(same.finish()).is_ok());
    // 9 GiB: what Go writes. The body isn't there, and it is for that that the file is refused.
    let huge = one_layer("l").pax(&[("size", "9663676416")]).raw(&header("l", 0, |_| {}));
    assert!(matches!(fault(huge.finish()).0, ArchiveFault::Truncated { .. }));
    let linked = one_layer("l").raw(&header("l", 5, |header| header.set_entry_type(EntryType::Symlink)));
    assert!(matches!(fault(linked.padded(b"layer").finish()).0, ArchiveFault::Tar { .. }));
    let global = one_layer("l").entry(EntryType::XGlobalHeader.as_byte(), "g", "", b"9 size=7\n").file("l", b"layer");
    assert!(matches!(fault(global.finish()).0, ArchiveFault::Tar { .. }));
    let comment =
        one_layer("l").entry(EntryType::XGlobalHeader.as_byte(), "g", "", b"13 comment=x\n").file("l", b"layer");
    assert!(read(comment.finish()).is_ok());
}

/// A file whose middle is not there, so that 9 GiB can be walked.
struct Hollow {
    head: Vec<u8>,
    hole: u64,
    tail: Vec<u8>,
    at: u64,
    /// How much was read, to see that bodies are jumped over.
    read: std::rc::Rc<std::cell::Cell<u64>>,
}

impl std::io::Read for Hollow {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let (head, tail) = (self.head.len() as u64, self.head.len() as u64 + self.hole);
        let n = if self.at < head {
            (&self.head[usize::try_from(self.at).unwrap()..]).read(into)?
        } else if self.at < tail {
            let n = into.len().min(usize::try_from(tail - self.at).unwrap());
            into[..n].fill(1);
            n
        } else {
            let at = usize::try_from(self.at - tail).unwrap().min(self.tail.len());
            (&self.tail[at..]).read(into)?
        };
        self.at += n as u64;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

impl std::io::Seek for Hollow {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            std::io::SeekFrom::Start(at) => at,
            std::io::SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            std::io::SeekFrom::End(_) => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        Ok(self.at)
    }
}

#[test]
fn c99_nine_gib_are_jumped_over() {
    const SIZE: u64 = 9 << 30;
    struct Disk(std::rc::Rc<std::cell::Cell<u64>>);
    impl super::super::Disk for Disk {
        type File = Hollow;
        fn open(&self, _: &Path) -> std::io::Result<super::super::Opened<Hollow>> {
            let head = TarMaker::new().pax(&[("size", &SIZE.to_string())]).raw(&header("l", 0, |_| {})).unfinished();
            let tail = one_layer("l").finish();
            let size = (head.len() + tail.len()) as u64 + SIZE;
            let file = Hollow { head: head.into(), hole: SIZE, tail: tail.into(), at: 0, read: self.0.clone() };
            Ok(super::super::Opened::File { file, size })
        }
    }
    let disk = Disk(std::rc::Rc::default());
    let archive = Archive::read(&disk, &Path::new("x.tar").into(), &Limits::default()).unwrap();
    assert_eq!(archive.blob(&Digest::of(b"layer")).unwrap().size(), SIZE);
    assert!(disk.0.get() < 100_000, "{} bytes read", disk.0.get());
}

#[test]
fn c99_extension_headers() {
    let long = format!("{}/layer.tar", "d".repeat(200));
    let gnu = |maker: TarMaker, name: &str| {
        maker.entry(EntryType::GNULongName.as_byte(), "././@LongLink", "", format!("{name}\0").as_bytes())
    };
    assert!(read(one_layer(&long).pax(&[("path", &long)]).file("cut", b"layer").finish()).is_ok());
    assert!(read(gnu(one_layer(&long), &long).file("cut", b"layer").finish()).is_ok());
    // PAX, then GNU: both are about the file, the PAX size is not that of the long name.
    let both = gnu(one_layer(&long).pax(&[("size", "5"), ("mtime", "1.5")]), &long).file("cut", b"layer");
    assert!(read(both.finish()).is_ok());
    let differ = gnu(one_layer("l").pax(&[("path", "l")]), "other").file("l", b"layer");
    assert!(matches!(fault(differ.finish()).0, ArchiveFault::Tar { .. }));
    let link = one_layer("l").file(&"t".repeat(99), b"layer").pax(&[("linkpath", &"t".repeat(99))]).symlink("l", "cut");
    assert!(read(link.finish()).is_ok());
    let twice = one_layer("l").pax(&[("path", "l")]).pax(&[("path", "l")]).file("l", b"layer");
    assert!(matches!(fault(twice.finish()).0, ArchiveFault::Tar { .. }));
}

#[test]
fn c99_forged_headers() {
    let with = |bytes: &[u8]| fault(one_layer("l").raw(bytes).padded(b"layer").finish());
    let negative = header("l", 5, |header| header.as_old_mut().size = [0xff; 12]);
    assert!(matches!(with(&negative).0, ArchiveFault::Tar { .. }));
    let mut broken = header("l", 5, |_| {});
    broken[0] = b'm';
    let (fault_, text) = with(&broken);
    assert!(matches!(fault_, ArchiveFault::Tar { .. }) && text.contains("wrong checksum"), "{text}");
    let sparse = header("l", 5, |header| header.set_entry_type(EntryType::GNUSparse));
    assert!(with(&sparse).1.contains("sparse"));
    let sparse = one_layer("l").pax(&[("GNU.sparse.major", "1")]).file("l", b"layer");
    assert!(fault(sparse.finish()).1.contains("sparse"));
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        let bomb = header("l", 2 << 30, |header| header.set_entry_type(kind));
        assert!(matches!(with(&bomb).0, ArchiveFault::TooLarge { .. }), "{kind:?}");
    }
    // Base-256 is what GNU tar writes for a big size, and may say a small one.
    let base256 = header("l", 0, |header| header.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert!(read(one_layer("l").raw(&base256).padded(b"layer").finish()).is_ok());
}

#[test]
fn c100_ends() {
    let whole = one_layer("l").file("l", b"layer").unfinished();
    let ok = |bytes: &[u8]| read(bytes.to_vec()).map_err(|e| e.to_string()).unwrap();
    let cut = |bytes: &[u8]| {
        let (fault, text) = fault(bytes.to_vec());
        assert!(matches!(fault, ArchiveFault::Truncated { .. }), "{text}");
    };
    let last = whole.len() - 1024;
    cut(&whole[..last + 100]);
    cut(&whole[..last + 512 + 4]);
    ok(&whole[..last + 512 + 5]);
    ok(&whole);
    ok(&[&whole[..], &[0; 512]].concat());
    ok(&[&whole[..], &[0; 20 * 512]].concat());
    ok(&[&whole[..], &[0; 1024], &b"garbage".repeat(99)[..]].concat());
    cut(&one_layer("l").file("l", b"layer").pax(&[("path", "x")]).unfinished());
}

#[test]
fn what_is_no_archive_at_all() {
    let not = |bytes: &[u8]| {
        let (fault, text) = fault(bytes.to_vec());
        assert!(matches!(fault, ArchiveFault::NotAnArchive { .. }), "{text}");
        text
    };
    assert!(not(b"").contains("it is empty"));
    assert!(not(b"hello").contains("neither a tar"));
    not(&[b'x'; 2000]);
    not(&[0; 10240]);
    assert!(not(&TarMaker::new().file("etc/passwd", b"").finish()).contains("docker export"));
    let old = TarMaker::new().folder("abc/").file("abc/layer.tar", b"").file("repositories", b"{}").finish();
    assert!(matches!(fault(old).0, ArchiveFault::Unsupported { .. }));
}

#[test]
fn limits_hold() {
    let content = one_layer("l").file("l", b"layer").finish();
    let read = |limits: Limits| {
        let path: Arc<Path> = Path::new("x.tar").into();
        Archive::read(&MemoryDisk::with("x.tar", content.clone()), &path, &limits)
    };
    let d = Limits::default;
    assert!(read(Limits { entries: 3, links: 0, documents: 400, names: 100, layers: 1, images: 1, ..d() }).is_ok());
    for limits in [
        Limits { entries: 2, ..d() },
        Limits { name: 5, ..d() },
        Limits { names: 15, ..d() },
        Limits { index: 10, ..d() },
        Limits { config: 10, ..d() },
        Limits { documents: 10, ..d() },
        Limits { layers: 0, ..d() },
        Limits { images: 0, ..d() },
    ] {
        let error = read(limits).unwrap_err();
        assert!(matches!(error.fault(), ArchiveFault::TooLarge { .. }), "{limits:?}: {error}");
    }
}
