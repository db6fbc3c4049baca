//! Peers that are gone before anything was said.

use std::io::Read as _;

use registry_tests::authority::Authority;

use super::*;

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

on_all_runtimes!(a_peer_that_hangs_up_on_a_handshake_is_asked_again);
