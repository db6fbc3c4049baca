//! The core's runtimes in one file each, as its examples show them: no less than ours, as far as their users can see.

#[path = "../../registry-proto/examples/smol.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod smol_driver;
#[path = "../../registry-proto/examples/std_net.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod std_net_driver;

use registry_proto::{Config, Error, Event, Flow, Session};

/// Runs a flow over smol and hyper.
///
/// # Errors
/// The flow's.
pub fn smol<F: Flow>(config: Config, flow: F, tell: impl FnMut(Event)) -> Result<F::Output, Error> {
    ::smol::block_on(smol_driver::drive(&mut Session::new(config, 1), flow, tell))
}

/// Runs a flow over nothing but the standard library's sockets and a parser.
///
/// # Errors
/// The flow's.
pub fn std_net<F: Flow>(config: Config, flow: F, tell: impl FnMut(Event)) -> Result<F::Output, Error> {
    std_net_driver::drive(&mut Session::new(config, 1), flow, tell)
}
