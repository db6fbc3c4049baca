//! `serve`.

use registry_tokio::proto::testing::registry::{Profile, Registry, Support};
use registry_tokio::serve::Server;

use crate::args::{Format, Serve};
use crate::output::{Trouble, print};

pub(crate) async fn serve(what: Serve) -> Result<(), Trouble> {
    let server = Server::bind(what.addr, Registry::new(profile()))
        .await
        .map_err(|why| Trouble::Other(format!("{} can't be listened at: {why}", what.addr)))?;
    print(Format::Text, format_args!("{}\n", server.address()), || server.address().to_string().into())?;
    tokio::signal::ctrl_c().await.map_err(|why| Trouble::Other(format!("Ctrl-C can't be waited for: {why}")))
}

/// An ordinary registry, which also deletes: whoever tries something out wants to be rid of it again.
pub(crate) fn profile() -> Profile {
    Profile { delete: Support::Yes, delete_tags: true, ..Profile::distribution_3() }
}
