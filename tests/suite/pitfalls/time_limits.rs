//! Each limit of time holds for its phase, and only there.

use super::*;

fn connecting_has_a_limit(runtime: Runtime) {
    at_once([FAR, NEAR], |others| {
        let (listener, _full) = deaf();
        let flow = Pinging::new(listener.local_addr().unwrap().to_string().parse().unwrap());
        timed_out("TCP", &run(runtime, limits(Phase::Connect, others), flow), Phase::Connect);
    });
    at_once([FAR, NEAR], |others| {
        // Accepted by the kernel, but nobody is there to shake hands with.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let flow = Pinging::new(listener.local_addr().unwrap().to_string().parse().unwrap());
        let mut config = limits(Phase::Connect, others);
        config.scheme = Scheme::Https;
        timed_out("TLS", &run(runtime, config, flow), Phase::Connect);
    });
}

/// A listener whose backlog is full: whoever connects now waits.
fn deaf() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address, millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(why) if why.kind() == io::ErrorKind::TimedOut => return (listener, waiting),
            Err(why) => panic!("after {} connections: {why}", waiting.len()),
        }
    }
}

fn waiting_for_a_reply_has_a_limit(runtime: Runtime) {
    at_once([FAR, NEAR], |others| {
        let server = serve(|_| Answer::stall(u64::MAX));
        let ran = run(runtime, limits(Phase::Head, others), ping(&server));
        timed_out("GET", &ran, Phase::Head);
        at_once([("PUT", "/blobs/uploads/"), ("PUT", "/manifests/"), ("POST", "/blobs/uploads/")], |(method, path)| {
            let server = serve(move |asked| match asked.is(method, path) {
                true => Answer::stall(u64::MAX),
                false => Answer::registry(),
            });
            let ran = Sample::small().push(runtime, limits(Phase::Head, others), &server);
            timed_out(&format!("{method} {path}"), &ran, Phase::Head);
        });
    });
}

fn a_reply_that_stops_has_a_limit(runtime: Runtime) {
    at_once([FAR, NEAR], |others| {
        let half = format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Length: 9\r\n\r\n{{}}");
        let server = serve(move |_| Answer::raw(&half).then(Then::Hold));
        let ran = run(runtime, limits(Phase::Body, others), ping(&server));
        timed_out("a reply", &ran, Phase::Body);
    });
}

fn an_upload_that_stops_has_a_limit(runtime: Runtime) {
    let sample = Sample::big();
    at_once([FAR, NEAR], |others| {
        // (Not much more: the kernel would come to take in the rest for a peer that it has seen reading.)
        at_once([0, 64 << 10], |after| {
            let server = serve(move |asked| match is_blob_put(asked) && asked.length() > 1 << 20 {
                true => Answer::stall(after),
                false => Answer::registry(),
            });
            let ran = sample.push(runtime, limits(Phase::Body, others), &server);
            timed_out(&format!("an upload, after {after}"), &ran, Phase::Body);
        });
    });
}

fn slow_is_not_stalled(runtime: Runtime) {
    let mut config = once();
    (config.timeouts.head, config.timeouts.idle) = (millis(500), millis(500));
    // By default that would be: this is slower than a kilobyte a second.
    config.timeouts.idle_bytes = 1;
    let server = serve(|_| {
        let head = format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Length: 15\r\n\r\n");
        Answer::drip(head, "{ \"slow\": true }".get(..15).unwrap(), millis(80))
    });
    let ran = run(runtime, config, ping(&server));
    assert!(is_pong(&ran.result), "{:?}", ran.result);
    assert!(ran.took > millis(1000), "{:?}", ran.took);
}

fn a_failure_does_not_wait_for_others(runtime: Runtime) {
    // One blob is refused while another's request is never answered, or never read to its end.
    for stall in [u64::MAX, 0] {
        let sample = Sample::new(&[&noise(BIG), b"refused"]);
        let server = serve(move |asked| match (is_blob_put(asked), asked.length()) {
            (true, 7) => Answer::raw(reply("403 Forbidden", &[], "")),
            (true, length) if length == BIG as u64 => Answer::stall(stall),
            _ => Answer::registry(),
        });
        let mut config = once();
        (config.timeouts.head, config.timeouts.idle) = (FAR, FAR);
        let ran = sample.push(runtime, config, &server);
        assert_eq!(ran.result.as_ref().unwrap_err().status().unwrap(), 403, "{:?}", ran.result);
        assert!(ran.took < secs(3), "it took {:?}", ran.took);
    }
}

on_all_runtimes!(
    connecting_has_a_limit,
    waiting_for_a_reply_has_a_limit,
    a_reply_that_stops_has_a_limit,
    an_upload_that_stops_has_a_limit,
    slow_is_not_stalled,
    a_failure_does_not_wait_for_others,
);
