//! Whoever wants no limit says `Duration::MAX`, which no clock can show.

use registry_tests::on_hand_made_runtimes_too;

use super::*;

fn no_limit_is_a_limit_too(runtime: Runtime) {
    let mut config = quick();
    let limits = &mut config.timeouts;
    (limits.connect, limits.head, limits.idle) = (Duration::MAX, Duration::MAX, Duration::MAX);
    limits.whole = Duration::MAX;
    (config.patience, config.retry_after_limit) = (Duration::MAX, Duration::MAX);
    let failed = AtomicBool::new(false);
    let server = serve(move |asked| match is_blob_put(asked) && !failed.swap(true, Ordering::SeqCst) {
        true => Answer::raw(reply("503 Service Unavailable", &["Retry-After: 1"], "")),
        false => Answer::registry(),
    });
    let sample = Sample::big();
    let ran = sample.push(runtime, config, &server);
    assert!(ran.result.is_ok(), "{:?}", ran.result);
    sample.check(&server);
}

on_hand_made_runtimes_too!(no_limit_is_a_limit_too);
