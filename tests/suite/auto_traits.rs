//! What may go from thread to thread, and be shared between them: that this file compiles is the test.

use registry_proto::flow::{Copy, Destination, Inspect, Pull, Push, Resumable};
use registry_proto::job::{Completion, Failure, Job};
use registry_proto::spec::{Descriptor, Digest, Manifest, Reference, Repository};
use registry_proto::{Config, Credential, Error, Event, Flow, Session};

const fn shared<T: Send + Sync + 'static>() {}
const fn moved<T: Send + 'static>() {}
const fn is_moved<T: Send>(_: &T) {}
const fn flow<F: Flow<Output: Send> + Send + 'static>() {}

#[test]
fn values_clients_and_errors_are_shared() {
    shared::<(Config, Credential, Error, Event, Failure)>();
    shared::<(Reference, Repository, Digest, Descriptor, Manifest)>();
    shared::<(registry_tokio::Client, registry_async_std::Client, registry_blocking::Client)>();
}

#[test]
fn sessions_flows_and_jobs_are_moved() {
    moved::<(Session, Job, Completion)>();
    flow::<Push>();
    flow::<Pull>();
    flow::<Resumable<Push>>();
    flow::<Resumable<Pull>>();
    flow::<Copy>();
    flow::<Inspect>();
}

/// An operation can be spawned on executors of several threads.
#[test]
fn operations_are_moved() {
    let reference: Reference = "localhost:5000/app:v1".parse().expect("it is one");
    let client = registry_tokio::Client::new().expect("nothing is configured that could be wrong");
    is_moved(&client.push("app.tar", Destination::OriginalTags));
    is_moved(&client.pull(&reference, "app.tar"));
    is_moved(&client.copy(&reference, &reference));
    let client = registry_async_std::Client::new().expect("nothing is configured that could be wrong");
    is_moved(&client.push("app.tar", Destination::OriginalTags));
    is_moved(&client.pull(&reference, "app.tar"));
    is_moved(&client.copy(&reference, &reference));
}
