//! Answers that come while a body is still on its way.

use super::*;

fn early_answers(runtime: Runtime, ending: Then, over_tls: bool) {
    let sample = Sample::big();
    for header in [&[][..], &["Connection: close"]] {
        let headers = [header, &["WWW-Authenticate: Basic realm=\"here\""]].concat();
        let (refused, too_large) =
            (reply("401 Unauthorized", &headers, "{}"), reply("413 Content Too Large", header, "<html>no</html>"));
        // In a hurry where the server holds on: whoever sends can't know that nobody reads before the limit is over.
        let mut config = quick();
        config.timeouts.idle = millis(700);
        // One place: a connection that is held must not keep it.
        config.requests_per_registry = NonZeroUsize::MIN;

        let server =
            serve_over(over_tls, move |asked| match is_blob_put(asked) && asked.header("authorization").is_empty() {
                true => Answer::early(&refused).then(ending),
                false => Answer::registry(),
            });
        let mut with_password = config.clone();
        with_password.log_in(&server.host().parse().unwrap(), Credential::password("user", "secret"));
        let ran = sample.push(runtime, with_password, &server);
        assert!(ran.result.is_ok(), "401, {ending:?}: {:?}", ran.result);
        assert_eq!(ran.retries(), [""; 0], "401, {ending:?}: the answer was not heard");
        assert!(ran.took < secs(4), "401, {ending:?}: it took {:?}", ran.took);
        sample.check(&server);

        let server = serve_over(over_tls, move |asked| match asked.length() > 8 << 20 {
            true => Answer::early(&too_large).then(ending),
            false => Answer::registry(),
        });
        let ran = sample.push(runtime, config, &server);
        assert!(ran.result.is_ok(), "413, {ending:?}: {:?}", ran.result);
        let heard = ran.retries().iter().all(|why| why.contains("takes no bodies of this size"));
        assert!(heard, "413, {ending:?}: {:?}", ran.retries());
        assert!(ran.took < secs(6), "413, {ending:?}: it took {:?}", ran.took);
        sample.check(&server);
    }
}

fn c94_early_answer_and_go_on(runtime: Runtime) {
    early_answers(runtime, Then::Go, false);
}

fn early_answer_and_drain(runtime: Runtime) {
    early_answers(runtime, Then::Drain, false);
}

fn early_answer_and_linger(runtime: Runtime) {
    early_answers(runtime, Then::Linger, false);
}

fn early_answer_and_close(runtime: Runtime) {
    early_answers(runtime, Then::Close, false);
}

fn early_answer_and_hold(runtime: Runtime) {
    early_answers(runtime, Then::Hold, false);
}

fn early_answers_over_tls(runtime: Runtime) {
    // Linger is Close, later; and Go is Drain to whoever sends.
    for ending in [Then::Drain, Then::Close, Then::Hold] {
        early_answers(runtime, ending, true);
    }
}

fn cuts_and_stalls_over_tls(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve_over(true, move |asked| {
        let first = is_blob_put(asked) && asked.length() > 1 << 20 && cuts.fetch_add(1, Ordering::SeqCst) < 1;
        if first { Answer::cut(asked.length() / 2) } else { Answer::registry() }
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    let all = (BIG + sample.image.config().len()) as u64;
    assert_eq!(server.registry().ledger().bytes_received(), all, "no byte that had arrived was sent again");

    let server = serve_over(true, |asked| match is_blob_put(asked) && asked.length() > 1 << 20 {
        true => Answer::stall(64 << 10),
        false => Answer::registry(),
    });
    timed_out("an upload", &sample.push(runtime, limits(Phase::Body, FAR), &server), Phase::Body);
    let server = serve_over(true, |asked| match asked.is("PUT", "/manifests/") {
        true => Answer::stall(u64::MAX),
        false => Answer::registry(),
    });
    timed_out("a manifest", &Sample::small().push(runtime, limits(Phase::Head, FAR), &server), Phase::Head);
}

fn connections_are_kept_over_tls(runtime: Runtime) {
    let layers: Vec<Vec<u8>> = (0..20u32).map(|n| noise(n as usize + 1)).collect();
    let sample = Sample::new(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let server = serve_over(true, |_| Answer::registry());
    let mut config = quick();
    config.requests_per_registry = NonZeroUsize::MIN;
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert_eq!(server.accepted(), 1);
    // Whose certificate nobody vouches for isn't spoken to, however often.
    let mut config = quick();
    config.scheme = Scheme::Https;
    let ran = run(runtime, config, ping(&server));
    assert_eq!(kind_of(&ran.result), FailureKind::Tls, "{:?}", ran.result);
    assert_eq!(ran.retries(), [""; 0]);
}

on_all_runtimes!(
    c94_early_answer_and_go_on,
    early_answer_and_drain,
    early_answer_and_linger,
    early_answer_and_close,
    early_answer_and_hold,
    early_answers_over_tls,
    cuts_and_stalls_over_tls,
    connections_are_kept_over_tls,
);
