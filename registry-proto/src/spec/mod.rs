//! Values of the protocol, parsed once.
