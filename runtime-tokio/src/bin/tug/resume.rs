//! Transfers that can be interrupted, and how to go on with them.

use std::path::Path;

use registry_tokio::Client;
use registry_tokio::proto::Error;
use registry_tokio::proto::flow::{Resumable, Resume};

use crate::output::Trouble;
use crate::progress::Progress;

/// Runs a push or a pull, with its state in a file if there is one. If it is interrupted, it says how to go on: `otherwise`,
/// where there is no such file.
pub(crate) async fn run<F: Resume>(
    progress: &Progress,
    client: &Client,
    flow: F,
    state: Option<&Path>,
    otherwise: &str,
) -> Result<F::Output, Trouble> {
    let result = match state {
        Some(state) => progress.run(client, Resumable::new(flow, state)).await,
        None => progress.run(client, flow).await,
    };
    result.map_err(|why| {
        let how = || match state {
            Some(state) => {
                format!("the same command goes on from {}, with what has not been transferred yet", state.display())
            }
            None => otherwise.to_owned(),
        };
        match why {
            Trouble::Operation(Error::Cancelled) => {
                Trouble::Stopped(format!("stopped; nothing half-done is visible; {}", how()))
            }
            Trouble::Operation(why) if why.is_transient() => Trouble::Other(format!("{why} ({})", how())),
            why => why,
        }
    })
}
