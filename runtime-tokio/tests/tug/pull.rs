//! `tug pull` and `tug blob` as their users meet them.

use std::path::{Path, PathBuf};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::spec::{Digest, Platform};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_tokio::serve::Server;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{err, out, runtime, tug};

const LAYER: &[u8] = &[7; 300_000];

/// A registry with `multi:v1`: an image for this machine and one for another; and the folder for what is pulled.
struct Served {
    server: Server,
    _runtime: Runtime,
    folder: TempDir,
    images: [SampleImage; 2],
}

impl Served {
    fn new(auth: Option<Auth>) -> Self {
        let here = Platform::of_this_machine();
        let images = [(here.os.as_str(), here.architecture.as_str()), ("plan9", "mips")]
            .map(|(os, machine)| SampleImage::new(&["multi:v1"], &[LAYER, machine.as_bytes()]).on(os, machine));
        let mut registry = Registry::new(Profile { requires_auth: auth, ..Profile::distribution_3() });
        images.iter().for_each(|image| _ = registry.insert_image("multi", None, image));
        let index = make::index_of(&images, false);
        registry.insert_manifest("multi", Some("v1"), index.bytes().clone(), index.media_type().as_str()).unwrap();
        let runtime = runtime();
        let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
        Self { server, _runtime: runtime, folder: TempDir::new().unwrap(), images }
    }

    fn reference(&self) -> String {
        format!("{}/multi:v1", self.server.address())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn digest(&self, image: usize) -> String {
        self.images[image].manifest(false).digest().to_string()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_image_for_this_machine_is_pulled_into_a_tar() {
    let served = Served::new(None);
    let tar = served.path("multi.tar");
    let pulled = tug(&["pull", &served.reference(), text(&tar)]);
    assert_eq!(out(&pulled), format!("{}\n", served.digest(0)), "the digest, and nothing else");
    assert!(err(&pulled).contains("3 blobs fetched (293."), "{pulled:?}");
    // Nothing is added, nothing is missing, and it is called what it was pulled as.
    let name = served.reference();
    assert_eq!(out(&tug(&["digest", text(&tar)])), format!("{}\n", served.digest(0)));
    assert_eq!(out(&tug(&["validate", text(&tar)])), "ok\n");
    assert!(out(&tug(&["inspect", text(&tar)])).contains(&name));
    // Quiet, and once more.
    let again = tug(&["pull", "-q", &served.reference(), text(&tar)]);
    assert_eq!((out(&again), err(&again)), (out(&pulled), ""));
    assert_eq!(std::fs::read_dir(served.folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn other_platforms_and_forms() {
    let served = Served::new(None);
    let reference = served.reference();
    let index = make::index_of(&served.images, false).digest().to_string();
    let pull = |name: &str, more: &[&str]| {
        let path = served.path(name);
        tug(&[&["pull", &reference, text(&path)], more].concat())
    };
    assert_eq!(out(&pull("mips.tar", &["--platform", "plan9/mips"])), format!("{}\n", served.digest(1)));
    assert_eq!(out(&pull("all.tar", &["--all-platforms"])), format!("{index}\n"));
    for format in ["docker", "oci", "oci-dir", "docker-oci"] {
        assert_eq!(out(&pull(format, &["--format", format])), format!("{}\n", served.digest(0)));
        assert_eq!(out(&tug(&["validate", text(&served.path(format))])), "ok\n");
    }
    assert!(served.path("oci-dir/index.json").is_file());

    let again = pull("oci-dir", &["--format", "oci-dir,json"]);
    let told: Value = serde_json::from_str(out(&again)).unwrap();
    assert_eq!(told["images"][0]["digest"], served.digest(0));
    assert_eq!((&told["fetched"], &told["kept"]), (&0.into(), &3.into()), "{told}");
    assert_eq!(told["out"], text(&served.path("oci-dir")));

    for (name, more, status, says) in [
        ("none.tar", ["--platform", "linux/none"], 1, "has no image for linux/none; its platforms are: "),
        ("none.tar", ["--all-platforms", "--format=docker"], 2, "a docker-archive holds an image for one platform"),
        ("", ["--jobs", "1"], 1, "is a folder: name a file"),
    ] {
        let failed = pull(name, &more);
        assert_eq!(failed.status.code(), Some(status), "{failed:?}");
        assert!(err(&failed).contains(says) && failed.stdout.is_empty(), "{failed:?}");
    }
    assert!(!served.path("none.tar").exists());
}

#[test]
fn several_images_into_one_archive_with_a_password() {
    let served = Served::new(Some(Auth::basic("me", "secret")));
    let (one, other) = (served.reference(), format!("{}/multi@{}", served.server.address(), served.digest(1)));
    let tar = served.path("both.tar");
    let with = ["pull", &one, &other, text(&tar), "-u", "me", "-p"];
    let pulled = tug(&[&with[..], &["secret"]].concat());
    assert_eq!(out(&pulled), format!("{} {one}\n{} {other}\n", served.digest(0), served.digest(1)));
    assert_eq!(out(&tug(&["digest", text(&tar)])).lines().count(), 2);
    let denied = tug(&[&with[..], &["wrong"]].concat());
    assert_eq!(denied.status.code(), Some(1), "{denied:?}");
    assert!(err(&denied).contains("401") && !err(&denied).contains("wrong\""), "{denied:?}");
}

#[test]
fn a_blob_to_standard_output_and_into_a_file() {
    let served = Served::new(None);
    let digest = Digest::of(LAYER);
    let reference = format!("{}/multi@{digest}", served.server.address());
    let printed = tug(&["blob", &reference]);
    assert!(printed.status.success() && printed.stdout == LAYER, "{}", err(&printed));
    let path = served.path("layer");
    assert_eq!(out(&tug(&["blob", "-q", &reference, text(&path)])), format!("{digest}\n"));
    assert_eq!(std::fs::read(path).unwrap(), LAYER);
    let failed = tug(&["blob", &served.reference()]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(err(&failed).contains("says no digest"), "{failed:?}");

    served.server.registry(|registry| assert!(registry.damage_blob("multi", digest.as_str(), 0)));
    let damaged = tug(&["blob", &reference]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(damaged.stdout.len() < LAYER.len() && err(&damaged).contains("do not use it"), "{}", err(&damaged));
    let damaged = tug(&["blob", &reference, text(&served.path("damaged"))]);
    assert!(damaged.status.code() == Some(1) && !served.path("damaged").exists(), "{damaged:?}");
}

#[test]
fn mirrors_are_asked_first() {
    let (registry, mirror) = (Served::new(None), Served::new(None));
    let out_file = registry.path("out.tar");
    let of = format!("{}={}", registry.server.address(), mirror.server.address());
    let pull = |flags: &[&str]| {
        let reference = registry.reference();
        let verb = ["pull", "-v", "--all-platforms", &reference, text(&out_file), "--mirror", &of];
        let pulled = tug(&[&verb[..], flags].concat());
        out(&pulled);
        let said = err(&pulled).to_owned();
        move |of: &Served, what: &str| {
            said.matches(&format!("GET http://{}/v2/multi/{what}", of.server.address())).count()
        }
    };
    let asked = pull(&[]);
    assert_eq!((asked(&registry, "manifests/v1"), asked(&mirror, "manifests/v1")), (1, 0));
    assert_eq!((asked(&registry, "blobs/"), asked(&mirror, "blobs/")), (0, 5));
    let asked = pull(&["--mirror-tags"]);
    assert_eq!((asked(&registry, "manifests/v1"), asked(&mirror, "manifests/v1")), (0, 1));
    for wrong in [&["--mirror", "docker.io"][..], &["--mirror", "a=b c"], &["--mirror-tags"]] {
        let output = tug(&[&["digest", &registry.reference()][..], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}
