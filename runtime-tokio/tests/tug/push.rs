//! The command as its users meet it: what it prints where, how it ends, and what it says when it fails.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_tokio::serve::Server;
use tempfile::TempDir;

use crate::run::{command, err, printed, runtime, tug};

/// `tug serve` on a free port, until it is dropped.
struct Served(Child, String);

impl Served {
    fn new() -> Self {
        let mut child = command().args(["serve", "--addr", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self(child, address.trim_end().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn archive(folder: &Path) -> PathBuf {
    let one = SampleImage::new(&["app:v1", "app:v2"], &[b"a layer", b"another"]);
    let path = folder.join("app.tar");
    std::fs::write(&path, make::docker_save_legacy(&[one])).unwrap();
    path
}

#[test]
fn push_prints_the_digest_and_nothing_else() {
    let (served, folder) = (Served::new(), TempDir::new().unwrap());
    let archive = archive(folder.path());
    let archive = archive.to_str().unwrap();
    let digest = tug(&["digest", archive]);
    assert!(digest.status.success() && printed(&digest).starts_with("sha256:"), "{digest:?}");

    let reference = format!("{}/team/app:v3", served.1);
    let pushed = tug(&["push", archive, &reference]);
    assert!(pushed.status.success(), "{pushed:?}");
    assert_eq!(printed(&pushed), printed(&digest));
    assert!(err(&pushed).contains("3 of 3 blobs sent"), "{pushed:?}");

    let again = tug(&["push", "-q", archive, &reference]);
    assert_eq!((printed(&again), err(&again)), (printed(&digest), ""));

    let logged = tug(&["push", "-v", archive, &reference]);
    assert!(err(&logged).contains(&format!("HEAD http://{}/v2/team/app/manifests/sha256:", served.1)), "{logged:?}");
}

#[test]
fn several_references_are_lines_and_json_is_json() {
    let (served, folder) = (Served::new(), TempDir::new().unwrap());
    let archive = archive(folder.path());
    let archive = archive.to_str().unwrap();
    let dry = tug(&["push", archive, "--prefix", &served.1, "--dry-run", "--format", "json"]);
    let dry: serde_json::Value = serde_json::from_str(printed(&dry)).unwrap();
    assert_eq!((&dry["present"], dry["missing"].as_array().unwrap().len()), (&0.into(), 3));

    let pushed = tug(&["push", archive, "--prefix", &served.1]);
    let lines: Vec<(&str, &str)> = printed(&pushed).lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].0, lines[1].0);
    assert_eq!([lines[0].1, lines[1].1], [format!("{}/app:v1", served.1), format!("{}/app:v2", served.1)]);

    let again = tug(&["push", archive, "--prefix", &served.1, "--format", "json"]);
    let again: serde_json::Value = serde_json::from_str(printed(&again)).unwrap();
    assert_eq!((&again["sent"], &again["references"][1]["digest"]), (&0.into(), &lines[1].0.into()));
}

#[test]
fn an_archive_is_looked_at_without_a_registry() {
    let folder = TempDir::new().unwrap();
    let path = archive(folder.path());
    let archive = path.to_str().unwrap();
    let shown = tug(&["inspect", archive]);
    for part in ["app:v1", "app:v2", "linux/amd64", "in 2 layers"] {
        assert!(printed(&shown).contains(part), "{part}: {}", printed(&shown));
    }
    let json: serde_json::Value =
        serde_json::from_str(printed(&tug(&["inspect", archive, "--format", "json"]))).unwrap();
    assert_eq!((&json["kind"], &json["images"][0]["platform"]), (&"docker-save".into(), &"linux/amd64".into()));

    assert_eq!(printed(&tug(&["validate", archive])), "ok\n");
    let oci = SampleImage::new(&["app:v1"], &[b"a layer that will be damaged"]);
    let mut bytes = make::oci_archive(&[oci]).to_vec();
    let at = bytes.windows(7).position(|window| window == b"damaged").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = tug(&["validate", archive]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(printed(&damaged).contains("is damaged") && err(&damaged).contains("1 fault found"), "{damaged:?}");
}

#[test]
fn failures_have_their_status() {
    let folder = TempDir::new().unwrap();
    let archive = archive(folder.path());
    let archive = archive.to_str().unwrap();
    for (status, arguments, says) in [
        (2, &["push"][..], "ARCHIVE"),
        (2, &["push", archive, "a/UPPER"], "a/UPPER"),
        (2, &["push", archive, "a/b", "--chunk-size", "0"], "5242880"),
        (2, &["push", archive, "a/b", "--plain-http", "--tls"], "--tls"),
        (2, &["push", archive, "127.0.0.1:1/a", "-u", "me"], "--password-stdin"),
        (1, &["push", "/does/not/exist", "127.0.0.1:1/a"], "No such file"),
        (1, &["push", archive, "127.0.0.1:1/a", "--retries", "0"], "is it running?"),
        (1, &["inspect", "/etc/hosts"], "not an image archive"),
    ] {
        let failed = tug(arguments);
        assert_eq!(failed.status.code(), Some(status), "{arguments:?}: {failed:?}");
        assert!(printed(&failed).is_empty() && err(&failed).contains(says), "{arguments:?}: {failed:?}");
    }
}

#[test]
fn completions_are_scripts() {
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef tug"), ("fish", "complete -c tug")] {
        assert!(printed(&tug(&["completions", shell])).contains(part), "{shell}");
    }
}

#[test]
fn a_password_comes_in_by_standard_input_and_never_comes_out() {
    let runtime = runtime();
    let mut profile = Profile::distribution_2_8();
    profile.requires_auth = Some(Auth::basic("me", "correct horse"));
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(profile))).unwrap();
    let folder = TempDir::new().unwrap();
    let (archive, reference) = (archive(folder.path()), format!("{}/app:v1", server.address()));
    let push = |password: &str| {
        let mut child = command()
            .args(["push", "-v", archive.to_str().unwrap(), &reference, "-u", "me", "--password-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!err(&output).contains(password) && !printed(&output).contains(password), "{output:?}");
        output
    };
    let refused = push("battery staple");
    assert!(refused.status.code() == Some(1) && err(&refused).contains("the credentials were refused"), "{refused:?}");
    let done = push("correct horse");
    assert!(done.status.success(), "{done:?}");
    let nobody = tug(&["push", archive.to_str().unwrap(), &reference]);
    assert!(err(&nobody).contains("log in first"), "{nobody:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/app:v1", listener.local_addr().unwrap());
    let folder = TempDir::new().unwrap();
    let child = command()
        .args(["push", archive(folder.path()).to_str().unwrap(), &reference])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It asks, and is never answered.
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 16]).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{stopped:?}");
    assert!(err(&stopped).contains("stopped"), "{stopped:?}");
}
