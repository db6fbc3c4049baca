//! Bodies and replies that are cut: the rest is asked for, and nothing is sent twice.

use super::*;

fn a_body_cut_halfway_is_resumed(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve(move |asked| {
        let cut = is_blob_put(asked) && asked.length() > 1 << 20 && cuts.fetch_add(1, Ordering::SeqCst) < 1;
        if cut { Answer::cut(asked.length() / 2) } else { Answer::registry() }
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    assert_eq!(ran.retries().len(), 1, "{:?}", ran.retries());
    sample.check(&server);
    let all = (BIG + sample.image.config().len()) as u64;
    assert_eq!(server.registry().ledger().bytes_received(), all, "no byte that had arrived was sent again");
}

fn a_chunk_cut_halfway_is_resumed(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve(move |asked| {
        let cut = asked.is("PATCH", "") && cuts.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        if cut { Answer::cut(asked.length() / 3) } else { Answer::registry() }
    });
    let mut config = quick();
    config.upload = UploadPolicy::classic();
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    assert!(!ran.retries().is_empty());
    sample.check(&server);
}

fn a_lost_reply_sends_nothing_twice(runtime: Runtime) {
    let sample = Sample::big();
    let cuts = AtomicUsize::new(0);
    let server = serve(move |asked| {
        let cut = is_blob_put(asked) && asked.length() > 1 << 20 && cuts.fetch_add(1, Ordering::SeqCst) < 1;
        // The registry takes the blob, but its reply is lost on the way.
        if cut { Answer::lost() } else { Answer::registry() }
    });
    let ran = sample.push(runtime, quick(), &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
    assert_eq!(server.registry().ledger().commits.values().max(), Some(&1));
}

fn c42_a_short_reply_is_a_cut(runtime: Runtime) {
    let short = [
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Length: 100\r\n\r\n{{}}"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        format!("HTTP/1.1 200 OK\r\n{VERSION}\r\nContent-Le"),
        String::new(),
    ];
    for short in short {
        let told = short.clone();
        let server = serve(move |asked| match asked.number {
            0 | 1 => Answer::raw(&told).then(Then::Close),
            _ => Answer::raw(pong()),
        });
        let ran = run(runtime, once(), ping(&server));
        assert_eq!(kind_of(&ran.result), FailureKind::Cut, "{short:?}: {:?}", ran.result);
        let ran = run(runtime, quick(), ping(&server));
        assert!(is_pong(&ran.result), "{short:?}: {:?}", ran.result);
        assert_eq!(ran.retries().len(), 1, "{short:?}: {:?}", ran.retries());
    }
}

on_all_runtimes!(
    a_body_cut_halfway_is_resumed,
    a_chunk_cut_halfway_is_resumed,
    a_lost_reply_sends_nothing_twice,
    c42_a_short_reply_is_a_cut,
);
