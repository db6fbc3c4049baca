//! What the targets run. It belongs to the test suite, which replays the corpora with it (`tests/suite/corpora.rs`).

#[path = "../../src/fuzzed/mod.rs"]
pub mod fuzzed;
