//! A wish to end that is not lost.
//!
//! ```text
//!   cancel ─▶ (an answer was taken in, and not acted upon) ─▶ poll ─┬─ a request that is next is not begun ─▶ Cancelled
//!                                                                   ├─ other work is begun: cancelled once more
//!                                                                   └─ Wait: cancelled once more, and asked again
//! ```
//!
//! [`Flow::cancel`] stops what is under way. A flow that has just been given an answer has nothing under way, and the answer may be
//! needed: only the reply to a `POST` says where the upload session is that has to be closed. So it acts upon the answer, and whoever
//! wants it to end remembers that, and asks for each step in this way.

use crate::flow::{Context, Flow, Step};

/// Polls a flow that was cancelled.
pub(crate) fn wind_down<F: Flow>(flow: &mut F, cx: &mut Context<'_>) -> Step<F::Output> {
    let before = std::mem::replace(&mut cx.ending, true);
    let step = match flow.poll(cx) {
        Step::Wait(_) => {
            flow.cancel();
            flow.poll(cx)
        }
        step => step,
    };
    cx.ending = before;
    if let Step::Run(_) = &step {
        flow.cancel();
    }
    step
}
