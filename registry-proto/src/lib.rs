//! Docker Registry HTTP API V2 / OCI distribution as pure state machines.

pub mod spec;
