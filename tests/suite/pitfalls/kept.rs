//! Connections that are kept: used again, closed meanwhile, few for many blobs.

use super::*;

fn extra_bytes_are_nobodys_answer(runtime: Runtime) {
    let extra = reply("500 Oops", &[], "not for you");
    let server = serve(move |asked| match asked.nth {
        0 => Answer::raw(pong() + &extra),
        _ => Answer::raw(pong()),
    });
    let ran = pings(runtime, once(), &server, 3);
    let results = ran.result.unwrap();
    assert!(results.iter().all(is_pong), "{results:?}");
    assert_eq!(server.count("GET", "/v2/"), 3);
}

fn a_connection_closed_while_idle_is_not_used(runtime: Runtime) {
    // A promise to keep the connection, broken at once.
    let server = Arc::new(serve(|_| Answer::raw(pong()).then(Then::Close)));
    let watched = Arc::clone(&server);
    let flow = Series::new((0..20).map(|_| ping(&server))).between(move |_| watched.wait_for_closing());
    let ran = run(runtime, quick(), flow);
    assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
    // Between looking and sending there is a gap in which a connection may still go: at most now and then.
    assert!(ran.retries().len() <= 2, "{:?}", ran.retries());
    // With requests that change something, too.
    let sample = Sample::new(&[b"one", b"two", b"three"]);
    let server = serve(|_| Answer::registry().then(Then::Close));
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
}

fn a_connection_that_dies_when_it_is_used_again(runtime: Runtime) {
    for over_tls in [false, true] {
        let server = serve_over(over_tls, |asked| if asked.nth == 0 { Answer::raw(pong()) } else { Answer::cut(0) });
        // It counts as no try, and nobody waits. One place, so that there is only one connection that can be dead, and the
        // next is a new one.
        let mut config = once();
        config.requests_per_registry = NonZeroUsize::MIN;
        config.scheme = if over_tls { Scheme::Https } else { Scheme::Http };
        let ran = run_trusting(runtime, server.root(), config, Series::new((0..5).map(|_| ping(&server))));
        assert!(ran.result.as_ref().unwrap().iter().all(is_pong), "{:?}", ran.result);
        assert_eq!(ran.retries(), [""; 0], "TLS: {over_tls}");
        assert_eq!(server.log().len(), 1 + 2 * 4, "each was asked once more");
    }
    // What has said a word is not dead, but cut.
    let server = serve(|asked| match asked.nth {
        0 => Answer::raw(pong()),
        _ => Answer::raw("HTTP/1.1 200 OK\r\nContent-Le").then(Then::Close),
    });
    let mut config = once();
    config.requests_per_registry = NonZeroUsize::MIN;
    let ran = pings(runtime, config, &server, 2);
    assert_eq!(kind_of(&ran.result.unwrap()[1]), FailureKind::Cut);
    // What changes something is asked about before it is sent again.
    for (sample, mut config) in [(Sample::small(), once()), (Sample::big(), quick())] {
        let died = AtomicBool::new(false);
        let server =
            serve(move |asked| match is_blob_put(asked) && asked.nth > 0 && !died.swap(true, Ordering::SeqCst) {
                true => Answer::cut(0),
                false => Answer::registry(),
            });
        config.requests_per_registry = NonZeroUsize::MIN;
        let ran = sample.push(runtime, config, &server);
        // (How much of a large body was taken on before it showed, the kernel says: it may look like a cut.)
        assert!(ran.result.is_ok() && ran.retries().len() <= 1, "{:?}: {:?}", ran.result, ran.retries());
        sample.check(&server);
        assert_eq!(server.registry().ledger().commits.values().max(), Some(&1));
    }
    // And a registry that does so all the time gets no further than one in trouble.
    let sample = Sample::small();
    let server = serve(|asked| match asked.nth > 0 && asked.connection < 5 {
        true => Answer::cut(0),
        false => Answer::registry(),
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    let server = serve(|asked| if asked.nth > 0 { Answer::cut(0) } else { Answer::registry() });
    let mut config = quick();
    (config.retries, config.requests_per_registry) = (2, NonZeroUsize::MIN);
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_err() && server.log().len() < 50, "{:?}: {} requests", ran.result, server.log().len());
}

fn three_hundred_layers_on_few_connections(runtime: Runtime) {
    let layers: Vec<Vec<u8>> = (0..300u32).map(|n| noise(n as usize + 1)).collect();
    let sample = Sample::new(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let server = serve(|_| Answer::registry());
    server.limit(6);
    let mut config = quick();
    config.transfers = NonZeroUsize::new(16).unwrap();
    config.requests_per_registry = NonZeroUsize::new(6).unwrap();
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert!(!server.exceeded(), "there were more than six connections at a time");
    // They are kept. (Now and then hyper loses one that it hands to a request that has just found another.)
    assert!(server.accepted() < 20, "{} connections for {} requests", server.accepted(), server.log().len());
    assert_eq!(ran.retries(), [""; 0]);
}

fn refusals_keep_their_connection(runtime: Runtime) {
    let server = serve(|_| Answer::raw(reply("404 Not Found", &[], "{\"errors\": []}")));
    let mut config = once();
    // One place: otherwise hyper may open a second connection while the first is about to come back.
    config.requests_per_registry = NonZeroUsize::MIN;
    let ran = pings(runtime, config, &server, 5);
    assert!(ran.result.unwrap().iter().all(Result::is_err));
    assert_eq!(server.accepted(), 1);
}

on_all_runtimes!(
    extra_bytes_are_nobodys_answer,
    a_connection_closed_while_idle_is_not_used,
    a_connection_that_dies_when_it_is_used_again,
    three_hundred_layers_on_few_connections,
    refusals_keep_their_connection,
);
