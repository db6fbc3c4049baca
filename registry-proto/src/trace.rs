//! Operations as spans and what happens on the way as events of `tracing` (feature `tracing`), the same on every runtime.
//!
//! | level | what |
//! | --- | --- |
//! | `WARN` | notices: what the user should know although it stops nothing |
//! | `INFO` | pauses, and what is tried again, with the reason |
//! | `DEBUG` | every request with its reply and how long it took; every other event |

use crate::event::Event;
use crate::flow::Flow;

/// The span of an operation: its field `operation` is the name of the flow, such as `Push`.
///
/// ```
/// use registry_proto::flow::Pinging;
///
/// let span = registry_proto::operation::<Pinging>();
/// let _within = span.enter();
/// ```
pub fn operation<F: Flow>() -> tracing::Span {
    let name = std::any::type_name::<F>();
    // Of `a::Fleet<b::Pinging>`, what it is a fleet of is as good a part of the name as any.
    let bare = name.split('<').next().unwrap_or(name);
    tracing::info_span!("registry", operation = bare.rsplit("::").next().unwrap_or(bare))
}

/// Hands an event to `tracing`. Its fields hold no secrets: URLs are without their query.
///
/// ```
/// registry_proto::trace(&registry_proto::Event::Notice("the tag `a:b` is none and was skipped".into()));
/// ```
pub fn trace(event: &Event) {
    match event {
        Event::Asked { request, reply: Ok(status), took } => {
            tracing::debug!(%request, status = status.as_u16(), ?took, "answered");
        }
        Event::Asked { request, reply: Err(why), took } => tracing::debug!(%request, %why, ?took, "not answered"),
        Event::Retrying { request, why, after } => tracing::info!(%request, %why, ?after, "will be tried again"),
        Event::Waiting { origin, after } => tracing::info!(%origin, ?after, "a registry asks for a pause"),
        Event::Notice(text) => tracing::warn!("{text}"),
        other => tracing::debug!(event = ?other),
    }
}
