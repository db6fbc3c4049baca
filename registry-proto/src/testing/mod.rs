//! What tests of a registry client need, without a network: ours and yours.
//!
//! - [`registry`]: a whole registry as a value: a request goes in, the reply comes out.

pub mod registry;
