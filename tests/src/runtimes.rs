//! The runtimes by name, so that one test runs on each.

use std::fmt;

use registry_proto::{Config, Error, Event, Flow};

use crate::{hand_made, secrets};

/// One of the drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// tokio and hyper.
    Tokio,
    /// async-std and surf.
    AsyncStd,
    /// Threads and ureq.
    Blocking,
    /// The core's example over smol and hyper. It speaks no TLS.
    Smol,
    /// The core's example over the standard library. It speaks no TLS.
    StdNet,
}

impl Runtime {
    /// Those that have a crate.
    pub const ALL: [Self; 3] = [Self::Tokio, Self::AsyncStd, Self::Blocking];

    /// Runs a flow on a new client with this configuration.
    ///
    /// # Errors
    /// The flow's.
    pub fn run<F: Flow>(self, config: Config, flow: F) -> Result<F::Output, Error> {
        self.run_with(config, flow, |_| {})
    }

    /// Runs a flow on a new client with this configuration, and tells what happens on the way.
    ///
    /// # Errors
    /// The flow's.
    ///
    /// # Panics
    /// When the runtime can't be started.
    pub fn run_with<F: Flow>(self, config: Config, flow: F, tell: impl FnMut(Event)) -> Result<F::Output, Error> {
        self.run_trusting(None, config, flow, tell)
    }

    /// Runs a flow on a new client that goes by way of the proxies that the environment names.
    ///
    /// # Errors
    /// The flow's.
    ///
    /// # Panics
    /// When the runtime can't be started.
    pub fn run_by_environment<F: Flow>(self, config: Config, flow: F) -> Result<F::Output, Error> {
        macro_rules! client {
            ($runtime:ident) => {
                $runtime::Client::builder().config(config).proxies_from_env().build()?
            };
        }
        match self {
            Self::Tokio => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
                runtime.block_on(async { client!(registry_tokio).run(flow).await })
            }
            Self::AsyncStd => async_std::task::block_on(async { client!(registry_async_std).run(flow).await }),
            Self::Blocking => client!(registry_blocking).run(flow),
            Self::Smol | Self::StdNet => panic!("the core's examples read no environment"),
        }
    }

    /// As [`Runtime::run_with`], trusting one more certificate authority.
    ///
    /// # Errors
    /// The flow's.
    ///
    /// # Panics
    /// When the runtime can't be started.
    pub fn run_trusting<F: Flow>(
        self,
        root: Option<Vec<u8>>,
        config: Config,
        flow: F,
        mut tell: impl FnMut(Event),
    ) -> Result<F::Output, Error> {
        secrets::watch();
        let tell = |event: Event| {
            secrets::check(&format!("{event:?}"));
            tell(event);
        };
        macro_rules! client {
            ($runtime:ident) => {{
                let mut builder = $runtime::Client::builder().config(config).seed(1);
                if let Some(root) = root {
                    builder = builder.root_certificate(root);
                }
                builder.build()?
            }};
        }
        let run = || match self {
            Self::Tokio => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(async { client!(registry_tokio).run_with(flow, tell).await })
            }
            Self::AsyncStd => {
                async_std::task::block_on(async { client!(registry_async_std).run_with(flow, tell).await })
            }
            Self::Blocking => client!(registry_blocking).run_with(flow, tell),
            Self::Smol => hand_made::smol(config, flow, tell),
            Self::StdNet => hand_made::std_net(config, flow, tell),
        };
        let result = run();
        said_nothing(result.as_ref().err());
        result
    }
}

impl Runtime {
    /// Runs flows at the same time, each as an operation of its own, on one new client that trusts this authority, too.
    ///
    /// # Errors
    /// When there is no such client.
    ///
    /// # Panics
    /// When the runtime can't be started, or an operation panics.
    pub fn run_at_once<F>(
        self,
        root: Vec<u8>,
        config: Config,
        flows: Vec<F>,
    ) -> Result<Vec<Result<F::Output, Error>>, Error>
    where
        F: Flow + Send + 'static,
        F::Output: Send + 'static,
    {
        macro_rules! client {
            ($runtime:ident) => {
                $runtime::Client::builder().config(config).seed(1).root_certificate(root).build()?
            };
        }
        secrets::watch();
        let results: Vec<Result<F::Output, Error>> = match self {
            Self::Tokio => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(async {
                    let client = client!(registry_tokio);
                    let started: Vec<_> = flows
                        .into_iter()
                        .map(|flow| {
                            let client = client.clone();
                            tokio::spawn(async move { client.run(flow).await })
                        })
                        .collect();
                    let mut results = Vec::new();
                    for one in started {
                        results.push(one.await.unwrap());
                    }
                    Ok::<_, Error>(results)
                })?
            }
            Self::AsyncStd => async_std::task::block_on(async {
                let client = client!(registry_async_std);
                let started: Vec<_> = flows
                    .into_iter()
                    .map(|flow| {
                        let client = client.clone();
                        async_std::task::spawn(async move { client.run(flow).await })
                    })
                    .collect();
                let mut results = Vec::new();
                for one in started {
                    results.push(one.await);
                }
                Ok::<_, Error>(results)
            })?,
            Self::Smol | Self::StdNet => panic!("{self} does one thing at a time"),
            Self::Blocking => {
                let client = client!(registry_blocking);
                let started: Vec<_> = flows
                    .into_iter()
                    .map(|flow| {
                        let client = client.clone();
                        std::thread::spawn(move || client.run(flow))
                    })
                    .collect();
                started.into_iter().map(|one| one.join().unwrap()).collect()
            }
        };
        results.iter().for_each(|result| said_nothing(result.as_ref().err()));
        Ok(results)
    }
}

/// Neither an error nor any log has given a secret away.
#[track_caller]
fn said_nothing(error: Option<&Error>) {
    if let Some(error) = error {
        secrets::check(&format!("{error} {error:?}"));
    }
    secrets::none_was_logged();
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokio => "tokio",
            Self::AsyncStd => "async-std",
            Self::Blocking => "blocking",
            Self::Smol => "smol",
            Self::StdNet => "std::net",
        })
    }
}

/// As `on_all_runtimes!`, with the core's examples of a runtime as well.
#[macro_export]
macro_rules! on_hand_made_runtimes_too {
    ($($test:ident),* $(,)?) => {
        $crate::on_all_runtimes!($($test),*);
        mod smol { $(#[test] fn $test() { super::$test($crate::runtimes::Runtime::Smol); })* }
        mod std_net { $(#[test] fn $test() { super::$test($crate::runtimes::Runtime::StdNet); })* }
    };
}

/// Makes a test for each runtime out of functions that take one: `on_all_runtimes!(a, b)` gives `tokio::a`, `blocking::b` …
#[macro_export]
macro_rules! on_all_runtimes {
    ($($test:ident),* $(,)?) => {
        mod tokio { $(#[test] fn $test() { super::$test($crate::runtimes::Runtime::Tokio); })* }
        mod async_std { $(#[test] fn $test() { super::$test($crate::runtimes::Runtime::AsyncStd); })* }
        mod blocking { $(#[test] fn $test() { super::$test($crate::runtimes::Runtime::Blocking); })* }
    };
}
