//! Who is connected to: names with several addresses, and peers that are gone before anything was said.

use std::io::{Read as _, Write as _};

use registry_tests::authority::Authority;

use super::time_limits::deaf_at;
use super::*;

/// Answers every request with this.
fn answering(listener: TcpListener, reply: String) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut piece = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(got @ 1..) => request.extend_from_slice(&piece[..got]),
                    _ => break,
                }
            }
            let _ = stream.write_all(reply.as_bytes());
        }
    });
}

fn one_dead_address_leaves_time_for_the_others(runtime: Runtime) {
    // Where `localhost` has one address only, there is nothing to see.
    let Ok(deaf) = TcpListener::bind("[::1]:0") else { return };
    let port = deaf.local_addr().unwrap().port();
    let Ok(live) = TcpListener::bind(("127.0.0.1", port)) else { return };
    let _full = deaf_at(deaf.local_addr().unwrap());
    answering(live, reply(OK, &[VERSION, "Connection: close"], "{}"));
    let mut config = once();
    config.timeouts.connect = secs(2);
    let ran = run(runtime, config, Pinging::new(format!("localhost:{port}").parse().unwrap()));
    assert!(is_pong(&ran.result), "{:?}", ran.result);
}

/// Before a server that speaks TLS: the first connections end in the middle of the handshake, the way `end` ends them.
fn hanging_up(host: String, times: usize, end: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (nth, client) in listener.incoming().flatten().enumerate() {
            if nth < times {
                end(client);
                continue;
            }
            let server = TcpStream::connect(&host).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                thread::spawn(move || io::copy(&mut from, &mut to).map(|_| to.shutdown(std::net::Shutdown::Write)));
            }
        }
    });
    address.to_string()
}

fn a_peer_that_hangs_up_on_a_handshake_is_asked_again(runtime: Runtime) {
    let authority = Authority::new();
    let server = Server::start_as(&authority.identity(), registry(), |_| Answer::registry());
    let ends: [fn(TcpStream); 2] = [
        // What was not read makes it a reset.
        |mut client| _ = client.read(&mut [0; 8]),
        |mut client| {
            _ = client.read(&mut [0; 8 << 10]);
            _ = client.shutdown(std::net::Shutdown::Write);
        },
    ];
    for end in ends {
        let ping = |config: Config, times| {
            let host = hanging_up(server.host(), times, end);
            run_trusting(runtime, Some(authority.root()), config, Pinging::new(host.parse().unwrap())).result
        };
        let mut config = once();
        config.scheme = Scheme::Https;
        // Nothing was sent: that is certain.
        assert_eq!(kind_of(&ping(config.clone(), 1)), FailureKind::Connect);
        config.retries = 2;
        ping(config, 2).unwrap();
    }
}

on_all_runtimes!(one_dead_address_leaves_time_for_the_others, a_peer_that_hangs_up_on_a_handshake_is_asked_again);
