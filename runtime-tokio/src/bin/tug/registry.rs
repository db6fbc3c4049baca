//! `ping`.

use std::fmt::Write as _;

use serde_json::json;

use crate::args::{Ping, Voice};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::setup;
use crate::stored::Party;

pub(crate) async fn ping(what: Ping, voice: Voice) -> Result<(), Trouble> {
    // Nobody has to be logged in to ask that.
    let parties: &[Party] = if what.access.username.is_some() { &[Party::from(&what.registry)] } else { &[] };
    let client = setup::client(&what.access, None, parties)?;
    let progress = Progress::new(voice);
    let flow = registry_tokio::proto::flow::Pinging::new(what.registry);
    let ping = progress.run(&client, flow).await?;
    let mut text = format!("{}: a registry", ping.origin);
    match &ping.api_version {
        Some(version) => _ = write!(text, ", API version {version}"),
        None => text.push_str(" (it says no API version)"),
    }
    if ping.challenges.is_empty() {
        text.push_str(", open to all\n");
    }
    for challenge in &ping.challenges {
        _ = write!(text, ", wants {}", challenge.scheme());
        if let Some(realm) = challenge.param("realm") {
            _ = write!(text, " from {realm}");
        }
        text.push('\n');
    }
    print(what.format.format, text, || {
        let challenges: Vec<_> = ping
            .challenges
            .iter()
            .map(|challenge| {
                json!({
                    "scheme": challenge.scheme(),
                    "realm": challenge.param("realm"),
                    "service": challenge.param("service"),
                })
            })
            .collect();
        json!({
            "origin": ping.origin.to_string(),
            "status": ping.status.as_u16(),
            "apiVersion": ping.api_version,
            "challenges": challenges,
        })
    })
}
