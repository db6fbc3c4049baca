//! Docker Registry HTTP API V2 and OCI distribution, as pure state machines.
pub mod spec;
#[cfg(feature = "testing")]
pub mod testing;
