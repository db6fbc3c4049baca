//! The in-memory registry over HTTP.
