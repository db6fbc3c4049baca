//! Clients of all runtimes, as a program with threads sees them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use registry_proto::{Config, Error, Flow};

use crate::runtimes::Runtime;

/// How often it is looked whether something is so.
const MOMENT: Duration = Duration::from_millis(2);

/// A client of whichever runtime, as a program with threads sees it.
#[derive(Clone, Debug)]
pub enum Client {
    /// tokio's, with its runtime.
    Tokio(Arc<tokio::runtime::Runtime>, registry_tokio::Client),
    /// async-std's.
    AsyncStd(registry_async_std::Client),
    /// The one of plain threads.
    Blocking(registry_blocking::Client),
}

impl Client {
    /// One that doesn't wait long before it tries again.
    ///
    /// # Panics
    /// When the runtime can't be started, or has no client.
    pub fn new(runtime: Runtime) -> Self {
        let config = || {
            let mut config = Config::default();
            config.backoff = Duration::from_millis(1);
            config
        };
        match runtime {
            Runtime::Tokio => {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let client = registry_tokio::Client::builder().config(config()).build().unwrap();
                Self::Tokio(Arc::new(runtime.unwrap()), client)
            }
            Runtime::AsyncStd => {
                Self::AsyncStd(registry_async_std::Client::builder().config(config()).build().unwrap())
            }
            Runtime::Blocking => Self::Blocking(registry_blocking::Client::builder().config(config()).build().unwrap()),
            Runtime::Smol | Runtime::StdNet => panic!("the examples have a loop, and no client"),
        }
    }

    /// One that is cancelled by itself.
    #[must_use]
    pub fn branch(&self) -> Self {
        match self {
            Self::Tokio(runtime, client) => Self::Tokio(Arc::clone(runtime), client.branch()),
            Self::AsyncStd(client) => Self::AsyncStd(client.branch()),
            Self::Blocking(client) => Self::Blocking(client.branch()),
        }
    }

    /// Asks everything under way to wind down.
    pub fn cancel(&self) {
        match self {
            Self::Tokio(_, client) => client.cancel(),
            Self::AsyncStd(client) => client.cancel(),
            Self::Blocking(client) => client.cancel(),
        }
    }

    /// Runs a flow to its end.
    ///
    /// # Errors
    /// The flow's.
    pub fn run<F: Flow>(&self, flow: F) -> Result<F::Output, Error> {
        match self {
            Self::Tokio(runtime, client) => runtime.block_on(client.run(flow)),
            Self::AsyncStd(client) => async_std::task::block_on(client.run(flow)),
            Self::Blocking(client) => client.run(flow),
        }
    }

    /// Runs a flow until that is so, and drops it in its middle. Threads can't be dropped.
    ///
    /// # Panics
    /// When it ends before.
    pub fn drop_when<F: Flow>(&self, flow: F, is_so: impl Fn() -> bool) {
        match self {
            Self::Tokio(runtime, client) => runtime.block_on(async {
                let mut running = pin!(client.run(flow));
                while !is_so() {
                    if let Ok(result) = tokio::time::timeout(MOMENT, &mut running).await {
                        panic!("it ended: {:?}", result.err());
                    }
                }
            }),
            Self::AsyncStd(client) => async_std::task::block_on(async {
                let mut running = pin!(client.run(flow));
                while !is_so() {
                    if let Ok(result) = async_std::future::timeout(MOMENT, &mut running).await {
                        panic!("it ended: {:?}", result.err());
                    }
                }
            }),
            Self::Blocking(_) => unreachable!("its operations have no future"),
        }
    }

    /// How many tasks are alive, of this client and of nobody else.
    pub fn tasks(&self) -> usize {
        match self {
            Self::Tokio(runtime, _) => runtime.metrics().num_alive_tasks(),
            Self::AsyncStd(_) | Self::Blocking(_) => 0,
        }
    }
}
