//! Tokens that run out while a blob is under way, over sockets on all three runtimes: a registry that refuses the request which ends
//! an upload may have thrown the upload away by then.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use registry_proto::archive::make::{self, SampleImage};
use registry_proto::flow::{Destination, Push, PushOptions};
use registry_proto::testing::later::Later;
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::{Config, Credential, UploadPolicy};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Asked, Server};
use registry_tests::token_server::{PASSWORD, USER};

/// A layer that goes in chunks of this size.
const CHUNK: u64 = 100_000;

/// A registry that hands out tokens for five minutes. When it has taken a chunk of which `last` says so, `gone` seconds go by.
fn server(hand: &Arc<AtomicU64>, gone: u64, last: fn(&Asked) -> bool) -> Server {
    let mut profile = Profile::distribution_3();
    profile.requires_auth = Some(Auth::bearer_for("/token", "registry.test", USER, PASSWORD));
    let hand = Arc::clone(hand);
    Server::start(Registry::new(profile), move |asked| {
        let (hand, passes) = (Arc::clone(&hand), last(asked));
        Answer::edited(move |_| {
            if passes {
                hand.store(gone, Ordering::SeqCst);
            }
        })
    })
}

fn is_chunk(asked: &Asked, first: u64) -> bool {
    asked.is("PATCH", "/blobs/uploads/") && asked.header("content-range").starts_with(&format!("{first}-"))
}

fn a_token_that_runs_out_during_an_upload_is_renewed_before_its_end(runtime: Runtime) {
    // Of 300 seconds, 40 are left: enough for a question, but not for the end of an upload. And none.
    for gone in [260, 400] {
        let hand = Arc::new(AtomicU64::new(0));
        let server = server(&hand, gone, |asked| is_chunk(asked, CHUNK));
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("app.tar");
        let layer = vec![7; 2 * CHUNK as usize];
        fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["app:v1"], &[&layer])])).unwrap();
        let mut config = Config::default();
        (config.transfers, config.requests_per_registry) = (NonZeroUsize::MIN, NonZeroUsize::MIN);
        config.upload = UploadPolicy::Chunked(NonZeroU64::new(CHUNK).unwrap());
        config.log_in(&server.host().parse().unwrap(), Credential::password(USER, PASSWORD));
        let to = Destination::Reference(format!("{}/app:v1", server.host()).parse().unwrap());
        let push = Later::new(Push::new(archive, to, PushOptions::default()), || {
            let now = Duration::from_secs(hand.load(Ordering::SeqCst));
            // The registry's clock and the client's are the same one.
            server.registry().advance(now);
            now
        });
        runtime.run(config, push).unwrap();

        let log = server.log();
        let chunk = log.iter().position(|asked| is_chunk(asked, CHUNK)).unwrap();
        let end = log[chunk..].iter().find(|asked| asked.is("PUT", "/blobs/uploads/")).unwrap();
        assert!(end.head.uri.path() == log[chunk].head.uri.path(), "{end:?} does not end that upload");
        assert_ne!(end.header("authorization"), log[chunk].header("authorization"), "{gone}: the old token was shown");
        let ledger = server.registry().ledger().clone();
        assert_eq!((ledger.challenges, ledger.tokens_issued), (1, 2), "{gone}: renewed only when it was refused");
        assert_eq!(server.registry().tags("app"), ["v1"]);
    }
}

on_all_runtimes!(a_token_that_runs_out_during_an_upload_is_renewed_before_its_end);
