//! Somebody who uses `tug`, and registries that don't let everybody in.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_tokio::serve::Server;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::run::{PROXIES, err, printed, runtime};

/// Somebody's home, with programs of his own.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir_all(home.path("bin")).unwrap();
        fs::create_dir_all(home.path("run")).unwrap();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// A helper that is this shell script.
    pub(crate) fn helper(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/docker-credential-{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A helper that keeps credentials in a folder, one file each.
    pub(crate) fn keeping_helper(&self, name: &str) {
        let kept = self.path("kept");
        fs::create_dir_all(&kept).unwrap();
        let script = format!(
            r#"
cd '{}'
echo "$1" >> ../log
input=$(cat)
case "$1" in
store) name=$(echo "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr ':/' '__'); echo "$input" > "$name" ;;
get) name=$(echo "$input" | tr ':/' '__'); cat "$name" 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
erase) name=$(echo "$input" | tr ':/' '__'); rm "$name" 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
esac"#,
            kept.display()
        );
        self.helper(name, &script);
    }

    pub(crate) fn tug_with(&self, env: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tug"));
        let files = ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "XDG_CONFIG_HOME"];
        for name in files.into_iter().chain(PROXIES) {
            command.env_remove(name);
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut child = command
            .args(arguments)
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", path)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that takes no notice of its input may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub(crate) fn tug(&self, arguments: &[&str]) -> Output {
        self.tug_with(&[], arguments, "")
    }
}

/// What it said, if it went well.
pub(crate) fn fine(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    err(output)
}

/// Why it failed.
pub(crate) fn failed(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    err(output)
}

pub(crate) struct Closed {
    _runtime: Runtime,
    _server: Server,
    pub(crate) host: String,
}

/// A registry that lets `user` in, who knows the word `swordfish`.
pub(crate) fn closed(auth: Auth) -> Closed {
    let runtime = runtime();
    let profile = Profile { requires_auth: Some(auth), ..Profile::distribution_3() };
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(profile))).unwrap();
    let host = server.address().to_string();
    Closed { _runtime: runtime, _server: server, host }
}

pub(crate) fn with_tokens() -> Closed {
    closed(Auth::bearer_for("/token", "registry.test", "user", "swordfish"))
}

pub(crate) fn with_basic() -> Closed {
    closed(Auth::basic("user", "swordfish"))
}

pub(crate) const PAIR: &str = "dXNlcjpzd29yZGZpc2g=";

pub(crate) fn archive(home: &Home) -> String {
    let tar = make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer"])]);
    home.write("app.tar", tar).to_str().unwrap().to_owned()
}

/// Pushes and pulls with what is stored, and looks whether it is the same.
pub(crate) fn push_and_pull(home: &Home, env: &[(&str, &str)], host: &str) {
    let (archive, image) = (archive(home), format!("{host}/app:v1"));
    let pushed = home.tug_with(env, &["push", "-v", &archive, &image], "");
    let told = fine(&pushed);
    assert!(!told.contains("swordfish") && !told.contains(PAIR), "{told}");
    let out_file = home.path("out.tar");
    let _ = fs::remove_file(&out_file);
    let pulled = home.tug_with(env, &["pull", "-q", "--all-platforms", &image, out_file.to_str().unwrap()], "");
    fine(&pulled);
    assert_eq!(printed(&pulled), printed(&pushed));
}
