//! `referrers`.

use std::fmt::Write as _;

use registry_tokio::proto::flow::ListReferrers;
use registry_tokio::proto::spec::Descriptor;
use serde_json::json;

use crate::args::{Referrers, Voice};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::setup;
use crate::stored::Party;

pub(crate) async fn referrers(what: Referrers, voice: Voice) -> Result<(), Trouble> {
    let client = setup::client(&what.access, None, &[Party::from(&what.reference)])?;
    let mut flow = ListReferrers::new(&what.reference);
    if let Some(artifact_type) = what.artifact_type {
        flow = flow.of_type(artifact_type);
    }
    let found = Progress::new(voice).run(&client, flow).await?;
    let mut text = String::new();
    for one in &found {
        _ = writeln!(text, "{} {} {}", one.digest, kind(one), one.size);
    }
    print(
        what.format.format,
        text,
        || json!({ "reference": what.reference.with_default_tag().to_string(), "referrers": found }),
    )
}

/// What kind of artifact it is, in one word.
fn kind(one: &Descriptor) -> &str {
    let told = one.artifact_type.as_ref().unwrap_or(&one.media_type).as_str();
    if told.is_empty() { "-" } else { told }
}
