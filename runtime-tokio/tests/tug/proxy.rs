//! A registry that only a proxy can find, which the environment names.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use registry_proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;

use crate::run::{command, err, out, runtime};

/// A proxy that leads whoever shows the right credentials to one registry, whatever he asks for. It ends with this process.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, log) = (client.unwrap(), Arc::clone(&log));
                // Clients may go away whenever they like.
                thread::spawn(move || drop(serve(client, to, &log)));
            }
        });
        Self { address, asked }
    }
}

fn serve(mut client: TcpStream, to: SocketAddr, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    log.lock().unwrap().push(lines[0].clone());
    if !lines.iter().any(|line| line == "Proxy-Authorization: Basic Z3Vlc3Q6c3dvcmRmaXNo") {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n");
    }
    let mut server = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let mut answers = (server.try_clone()?, client);
    thread::spawn(move || io::copy(&mut answers.0, &mut answers.1));
    io::copy(&mut reader, &mut server).map(drop)
}

#[test]
fn proxies_by_the_environment() {
    let runtime = runtime();
    let registry = Registry::new(Profile::distribution_3());
    let server = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    let proxy = Proxy::start(server.address());
    let url = |user: &str| format!("http://{user}{}", proxy.address);
    let ping = |variables: &[(&str, &str)], host: &str| -> Output {
        let verb = ["ping", "-v", "--plain-http", "--retries", "0", host];
        command().args(verb).envs(variables.iter().copied()).output().unwrap()
    };
    let guest = url("guest:swordfish@");
    for variables in [&[("http_proxy", &*guest)][..], &[("all_proxy", &guest), ("no_proxy", "elsewhere.test")]] {
        let there = ping(variables, "registry.test");
        out(&there);
        assert!(!err(&there).contains("swordfish") && !err(&there).contains("Z3Vlc3Q6c3dvcmRmaXNo"), "{there:?}");
    }
    assert_eq!(*proxy.asked.lock().unwrap(), ["CONNECT registry.test:80 HTTP/1.1"; 2]);

    let failed = |variables: &[(&str, &str)], words: &str| {
        let output = ping(variables, "registry.test");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(err(&output).contains(words) && !err(&output).contains("hunter2"), "{words}: {output:?}");
    };
    failed(&[("http_proxy", &url(""))], "the proxy wants other credentials");
    failed(&[("http_proxy", &url("guest:hunter2@"))], "it doesn't take those it was shown");
    failed(&[("all_proxy", "socks5://guest:hunter2@127.0.0.1:1")], "it wants to be spoken to by `socks5`");
    // Not by way of a proxy, so not at all.
    for variables in [&[("http_proxy", &*guest), ("no_proxy", "test")][..], &[("HTTP_PROXY", &guest)], &[]] {
        failed(variables, "could not connect");
    }
    assert_eq!(proxy.asked.lock().unwrap().len(), 4);

    // This machine is reached without, whatever is in the environment.
    out(&ping(&[("http_proxy", "http://127.0.0.1:1"), ("all_proxy", "socks5://x")], &server.address().to_string()));
}
