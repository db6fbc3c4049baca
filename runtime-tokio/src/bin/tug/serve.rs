//! `serve`.

use registry_tokio::proto::testing::registry::{Profile, Registry, Support};
use registry_tokio::serve::Server;

use crate::args::{Format, Serve};
use crate::interrupt;
use crate::kept::Kept;
use crate::output::{Trouble, print};

pub(crate) async fn serve(what: Serve) -> Result<(), Trouble> {
    let mut registry = Registry::new(profile());
    let bound = match &what.dir {
        None => Server::bind(what.addr, registry).await,
        Some(dir) => {
            let kept = Kept::open(dir, &mut registry).map_err(Trouble::Other)?;
            let keep = move |registry: &Registry| {
                // Whoever pushes is told that it failed; why, only whoever runs this can mend.
                kept.keep(registry).inspect_err(|why| crate::complain(format_args!("nothing can be kept: {why}")))
            };
            Server::bind_keeping(what.addr, registry, keep).await
        }
    };
    let server = bound.map_err(|why| {
        Trouble::Other(format!("{} can't be listened at: {why}; name another address (--addr)", what.addr))
    })?;
    print(Format::Text, format_args!("{}\n", server.address()), || server.address().to_string().into())?;
    let ended = interrupt::pressed_or_terminated().await;
    ended.map_err(|why| Trouble::Other(format!("signals can't be waited for: {why}")))
}

/// An ordinary registry, which also deletes: whoever tries something out wants to be rid of it again.
pub(crate) fn profile() -> Profile {
    Profile { delete: Support::Yes, delete_tags: true, ..Profile::distribution_3() }
}
