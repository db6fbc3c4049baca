//! Chapters for those who build on this crate. They exist in the documentation only.

#[doc = include_str!("drive_it_yourself.md")]
///
/// ## Over nothing but the standard library, and a parser
///
/// `registry-proto/examples/std_net.rs`, the whole of it:
///
/// ```rust,no_run
#[doc = include_str!("../../examples/std_net.rs")]
/// ```
///
/// ## Over smol and hyper
///
/// `registry-proto/examples/smol.rs`, the whole of it:
///
/// ```rust,no_run
#[doc = include_str!("../../examples/smol.rs")]
/// ```
pub mod drive_it_yourself {}

#[doc = include_str!("test_your_own_code.md")]
pub mod test_your_own_code {}
