//! Ctrl-C, and output that nobody reads to its end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::testing::registry::{Profile, Registry, Support};
use registry_tokio::serve::Server;
use tempfile::TempDir;

use crate::run::{command, err, runtime, tug};

/// Runs it with a standard output whose reader is gone.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command().args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn what_is_only_read_ends_when_nobody_reads() {
    for arguments in [&["completions", "bash"][..], &["man"]] {
        let ended = unread(arguments);
        assert!(ended.status.success() && err(&ended).is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn what_deletes_goes_on_when_nobody_reads() {
    let mut registry = Registry::new(Profile { delete: Support::Yes, ..Profile::distribution_3() });
    for nth in 0..5_u8 {
        let image = SampleImage::new(&[], &[&[nth; 10]]).manifest(false);
        let tag = format!("v{nth}");
        registry.insert_manifest("app", Some(&tag), image.bytes().clone(), image.media_type().as_str()).unwrap();
    }
    let runtime = runtime();
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    let ended = unread(&["delete", "--all", "-y", &format!("{}/app", server.address())]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(server.registry(|registry| registry.manifests("app")), []);
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// A registry that takes connections and requests, and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn started(arguments: &[&str]) -> Child {
    command().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn each_verb_says_what_is_left_of_it() {
    let (listener, host) = silent();
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("app.tar");
    fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer"])])).unwrap();
    let (archive, image, all) = (archive.to_str().unwrap(), format!("{host}/app:v1"), format!("{host}/app"));
    for (arguments, left) in [
        (&["tags", &all][..], ""),
        (&["inspect", &image], ""),
        (&["push", archive, &image], "the same command sends only what is missing"),
        (&["push", archive, &image, "--compress", "gzip"], "begins anew"),
        (&["copy", &image, &all], "sends only what is missing"),
        (&["tag", &image, "a", "b"], "some of the tags may be there"),
        (&["delete", "--all", "-y", &all], "what was printed is gone"),
    ] {
        let began = Instant::now();
        let child = started(arguments);
        // It has begun to talk.
        let (mut stream, _) = listener.accept().unwrap();
        _ = stream.read(&mut [0; 16]).unwrap();
        interrupt(&child);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{arguments:?}: {ended:?}");
        let said = err(&ended);
        assert!(said.contains("stopping; Ctrl-C again ends at once\n"), "{arguments:?}: {said}");
        assert!(said.contains("error: stopped") && said.contains(left), "{arguments:?}: {said}");
        assert!(!left.is_empty() || said.ends_with("error: stopped\n"), "{arguments:?}: {said}");
        assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}");
    }
}

/// A registry that takes the layer of a push and does not answer, nor when the session is to be closed: that is not waited for.
#[test]
fn tidying_up_has_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|got| got > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let reply = match head.split(' ').next().unwrap_or_default() {
                "GET" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
                "HEAD" => "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n",
                "POST" => {
                    "HTTP/1.1 202 Accepted\r\nLocation: /v2/app/blobs/uploads/1\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n"
                }
                "" => return,
                _ => {
                    kept.push(stream);
                    continue;
                }
            };
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("app.tar");
    fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[b"a layer"])])).unwrap();
    let child = started(&["push", archive.to_str().unwrap(), &format!("{host}/app:v1")]);
    std::thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    let began = Instant::now();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    drop(std::net::TcpStream::connect(&host));
    serving.join().unwrap();
}

#[test]
fn serve_ends_well_when_it_is_asked_to() {
    for signal in ["-TERM", "-INT"] {
        let mut child = started(&["serve", "--addr", "127.0.0.1:0"]);
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
        // (It listens for signals a moment after it has printed its address.)
        std::thread::sleep(Duration::from_millis(200));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert!(child.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn a_file_of_credentials_that_was_named_has_to_be_there() {
    let why = tug(&["tags", "127.0.0.1:1/app", "--authfile", "/nowhere/typo.json"]);
    assert_eq!(why.status.code(), Some(1));
    assert!(err(&why).contains("/nowhere/typo.json: there is no such file"), "{why:?}");
    let why =
        command().args(["tags", "127.0.0.1:1/app"]).env("REGISTRY_AUTH_FILE", "/nowhere/a.json").output().unwrap();
    assert!(err(&why).contains("/nowhere/a.json: there is no such file"), "{why:?}");
}

#[test]
fn where_nobody_is_trusted_the_error_says_so() {
    let (_listener, host) = silent();
    let why = command()
        .args(["tags", &format!("{host}/app"), "--tls", "--retries", "0"])
        .env("SSL_CERT_FILE", "/nowhere/ca.pem")
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = err(&why);
    assert!(said.contains("no system authorities were found: ") && said.contains("/nowhere/ca.pem"), "{said}");
}

/// Whoever thinks better of it has a terminal that shows what is typed.
#[test]
fn a_password_that_is_not_typed_leaves_the_terminal_as_it_was() {
    let tug = format!("{} login 127.0.0.1:1 -u me; echo status $?; stty -a", env!("CARGO_BIN_EXE_tug"));
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &tug, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is part of Debian's essential bsdutils");
    let (mut typing, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains("Password of me: ") {
        shown.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    // The question comes a moment before its answer is hidden.
    std::thread::sleep(Duration::from_millis(500));
    typing.write_all(b"\x03").unwrap();
    shown.read_to_end(&mut said).unwrap();
    child.wait().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("status 130") && said.contains("stopped"), "{said}");
    for hidden in ["-icanon", "-echo ", "-isig"] {
        assert!(said.contains(&hidden[1..]) && !said.contains(hidden), "{hidden}: {said}");
    }
}
