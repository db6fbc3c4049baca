//! What `tracing` hears of an operation: a span with its name, and within it each request with what came of it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use registry_proto::spec::Registry as Name;
use registry_proto::testing::registry::{Profile, Registry};
use registry_tests::on_all_runtimes;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{Answer, Server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down the spans that are entered, and the events of this project.
#[derive(Clone, Debug, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != "took" {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
}

impl Listener {
    fn hear(&self, what: &str, metadata: &Metadata<'_>, fields: Fields) {
        if metadata.target().starts_with("registry_proto") {
            self.0.lock().unwrap().push(format!("{what}{}", fields.0));
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.hear(span.metadata().name(), span.metadata(), fields);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.hear("event", event.metadata(), fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn an_operation_is_a_span_and_its_requests_are_events(runtime: Runtime) {
    let server = Server::start(Registry::new(Profile::distribution_3()), |_| Answer::registry());
    let (host, listener) = (server.host(), Listener::default());
    let name: Name = host.parse().unwrap();
    tracing::subscriber::with_default(listener.clone(), || match runtime {
        Runtime::Tokio => {
            let here = ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            here.block_on(async { registry_tokio::Client::new().unwrap().ping(&name).await }).map(drop)
        }
        Runtime::AsyncStd => ::async_std::task::block_on(async {
            registry_async_std::Client::new().unwrap().ping(&name).await.map(drop)
        }),
        _ => registry_blocking::Client::new().unwrap().ping(&name).map(drop),
    })
    .unwrap();
    let heard = listener.0.lock().unwrap().join("\n");
    let asked = format!("event message=answered request=GET http://{host}/v2/ status=200");
    assert_eq!(heard, format!("registry operation=\"Pinging\"\n{asked}"), "{runtime}");
}

on_all_runtimes!(an_operation_is_a_span_and_its_requests_are_events);
