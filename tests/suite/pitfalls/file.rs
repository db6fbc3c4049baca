//! The file that is sent changes on the way.

use super::*;

fn a_file_that_changes_is_an_error_of_its_own(runtime: Runtime) {
    type Change = fn(&Path);
    let shorter: Change = |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(6 << 20).unwrap();
    let empty: Change = |path| fs::write(path, "").unwrap();
    let gone: Change = |path| fs::remove_file(path).unwrap();
    let other: Change = |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[(6 << 20) + 1] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for (what, change, expected) in [
        ("shorter", shorter, FailureKind::Source),
        ("empty", empty, FailureKind::Source),
        ("gone", gone, FailureKind::Source),
        ("other", other, FailureKind::Mismatch),
    ] {
        let sample = Sample::big();
        let (archive, changed) = (sample.archive.clone(), AtomicBool::new(false));
        // The archive's table of contents was read, and its blobs are about to be.
        let server = serve(move |asked| {
            if asked.is("POST", "/blobs/uploads/") && !changed.swap(true, Ordering::SeqCst) {
                change(&archive);
            }
            Answer::registry()
        });
        let mut config = quick();
        config.transfers = NonZeroUsize::MIN;
        let ran = sample.push(runtime, config, &server);
        assert!(matches!(ran.result, Err(Error::Local(_))), "{what}: {:?}", ran.result);
        assert_eq!(kind_of(&ran.result), expected, "{what}: {:?}", ran.result);
        assert!(ran.took < secs(3), "{what}: it took {:?}", ran.took);
        let digest = Digest::of(&sample.image.layers[0]);
        assert_eq!(server.registry().ledger().commits_of(REPOSITORY, &digest), 0);
        assert_eq!(server.registry().ledger().mismatches, [], "{what}: not even the whole of a wrong blob is sent");
    }
}

on_all_runtimes!(a_file_that_changes_is_an_error_of_its_own,);
