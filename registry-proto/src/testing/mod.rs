//! An in-memory registry and a simulator, for tests.
