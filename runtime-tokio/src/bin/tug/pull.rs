//! `pull`.

use std::fmt::Write as _;

use registry_tokio::proto::archive::ArchiveFormat;
use registry_tokio::proto::flow::{Platforms, Pull as Pulling, PullOptions, PullTotals, Pulled, PulledImage};
use serde_json::{Value, json};

use crate::args::{Format, Pull, PullFormat, Voice};
use crate::output::{Trouble, bytes, print};
use crate::progress::Progress;
use crate::stored::Party;
use crate::{resume, setup};

pub(crate) async fn pull(what: Pull, voice: Voice) -> Result<(), Trouble> {
    let parties: Vec<Party> = what.references.iter().map(Party::from).collect();
    let mut config = setup::config(&what.access, None);
    config.transfers = what.jobs;
    setup::log_in(&mut config, &what.access, &parties)?;
    let client = setup::build(&what.access, config)?;
    let progress = Progress::new(voice);

    let mut options = PullOptions::default();
    options.format = archive(&what.format);
    options.platforms = match what.platform {
        Some(platform) => Platforms::Only(platform),
        None if what.all_platforms => Platforms::All,
        None => Platforms::ThisMachine,
    };
    let flow = Pulling::new(what.references, &what.out, options);
    let otherwise = "what has come so far is kept: the same command goes on from there";
    let pulled = resume::run(&progress, &client, flow, what.resume.as_deref(), otherwise).await?;
    progress.say(summary(&pulled.totals));
    let printed = if what.format.contains(&PullFormat::Json) { Format::Json } else { Format::Text };
    print(printed, text(&pulled.images), || as_json(&pulled, &what.out))
}

/// The last that was said of it counts.
fn archive(formats: &[PullFormat]) -> ArchiveFormat {
    let said = formats.iter().rev().find_map(|format| match format {
        PullFormat::DockerOci => Some(ArchiveFormat::DockerAndOci),
        PullFormat::Docker => Some(ArchiveFormat::Docker),
        PullFormat::Oci => Some(ArchiveFormat::Oci),
        PullFormat::OciDir => Some(ArchiveFormat::OciFolder),
        PullFormat::Text | PullFormat::Json => None,
    });
    said.unwrap_or_default()
}

/// `DIGEST` for one image, a line `DIGEST REF` each for several.
pub(crate) fn text(images: &[PulledImage]) -> String {
    match images {
        [only] => format!("{}\n", only.digest),
        several => several.iter().fold(String::new(), |mut text, one| {
            _ = writeln!(text, "{} {}", one.digest, one.reference);
            text
        }),
    }
}

pub(crate) fn summary(totals: &PullTotals) -> String {
    format!(
        "{} blobs fetched ({}), {} here already",
        totals.fetched,
        bytes(totals.fetched_bytes),
        bytes(totals.kept_bytes)
    )
}

fn as_json(pulled: &Pulled, out: &std::path::Path) -> Value {
    let images: Vec<Value> = pulled
        .images
        .iter()
        .map(|one| json!({ "reference": one.reference.to_string(), "digest": one.digest.to_string() }))
        .collect();
    let totals = &pulled.totals;
    json!({
        "out": out.to_string_lossy(),
        "images": images,
        "fetched": totals.fetched,
        "fetchedBytes": totals.fetched_bytes,
        "kept": totals.kept,
        "keptBytes": totals.kept_bytes,
    })
}
