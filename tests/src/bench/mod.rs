//! What the benches share: who takes part, how a run is measured, in which order they run, and what is printed of it.

mod contest;
mod measure;
mod random;
mod table;
pub mod wire;

pub use contest::{Options, Who, interleaved, memory_folder};
pub use measure::{Run, Usage, run, wait_for_quiet};
pub use random::Random;
pub use table::{Outcome, Role, Section, Target, machine};
