//! `push`.

use std::fmt::Write as _;

use registry_tokio::proto::flow::{
    Destination, Preview, Previewed, Push as Pushing, PushOptions, Pushed, PushedReference, ReadArchive, Totals,
};
use registry_tokio::proto::spec::Reference;
use serde_json::{Value, json};

use crate::args::{Push, Voice};
use crate::output::{Trouble, bytes, print};
use crate::progress::Progress;
use crate::stored::Party;
use crate::{resume, setup};

pub(crate) async fn push(what: Push, voice: Voice) -> Result<(), Trouble> {
    let progress = Progress::new(voice);
    let parties = match (&what.reference, &what.prefix) {
        (Some(reference), _) => vec![Party::from(reference)],
        (None, Some(prefix)) => vec![below(prefix)?],
        (None, None) => named(&what, &progress).await?,
    };
    let client = setup::client(&what.access, Some(&what.upload), &parties)?;
    let to = match (what.reference, what.prefix) {
        (Some(reference), _) => Destination::Reference(reference),
        (None, Some(prefix)) => Destination::Below(prefix),
        (None, None) => Destination::OriginalTags,
    };
    let mut options = PushOptions::default();
    options.image = what.image;
    if what.dry_run {
        let previewed = progress.run(&client, Preview::new(what.archive, to, options)).await?;
        return print(what.format.format, preview_text(&previewed), || preview_json(&previewed));
    }
    let otherwise =
        "the same command sends only what is missing; with --resume FILE, it also goes on in the middle of a blob";
    let flow = Pushing::new(what.archive, to, options);
    let pushed = resume::run(&progress, &client, flow, what.resume.as_deref(), otherwise).await?;
    progress.say(summary(&pushed.totals));
    print(what.format.format, references_text(&pushed.references), || pushed_json(&pushed))
}

/// Whom a push below a prefix talks to.
fn below(prefix: &str) -> Result<Party, Trouble> {
    // Only with something behind it is a prefix a reference; a bare host is one, too.
    let below = format!("{}/x", prefix.trim_end_matches('/'));
    let reference: Reference = below.parse().map_err(|why| Trouble::Usage(format!("--prefix {prefix}: {why}")))?;
    Ok(Party::from(&reference))
}

/// Whom a push talks to that goes where the archive says.
async fn named(what: &Push, progress: &Progress) -> Result<Vec<Party>, Trouble> {
    let reader = setup::build(&what.access, setup::config(&what.access, None))?;
    let archive = progress.run(&reader, ReadArchive::new(what.archive.as_path())).await?;
    let mut parties: Vec<Party> = Vec::new();
    for party in archive.images().iter().flat_map(|image| image.names()).filter_map(|name| name.reference()) {
        let party = Party::from(party);
        if !parties.contains(&party) {
            parties.push(party);
        }
    }
    Ok(parties)
}

/// `DIGEST` for one reference, a line `DIGEST REF` each for several.
pub(crate) fn references_text(references: &[PushedReference]) -> String {
    match references {
        [only] => format!("{}\n", only.digest),
        several => several.iter().fold(String::new(), |mut text, one| {
            _ = writeln!(text, "{} {}", one.digest, one.to_reference());
            text
        }),
    }
}

pub(crate) fn references_json(references: &[PushedReference]) -> Value {
    references
        .iter()
        .map(|one| json!({ "reference": one.to_reference().to_string(), "digest": one.digest.to_string() }))
        .collect()
}

fn pushed_json(pushed: &Pushed) -> Value {
    json!({
        "references": references_json(&pushed.references),
        "sent": pushed.totals.sent,
        "sentBytes": pushed.totals.sent_bytes,
        "resumedBytes": pushed.totals.resumed_bytes,
        "existed": pushed.totals.existed,
        "mounted": pushed.totals.mounted,
    })
}

pub(crate) fn summary(totals: &Totals) -> String {
    if totals.sent + totals.existed + totals.mounted == 0 {
        return "everything was there already".to_owned();
    }
    let before = match totals.resumed_bytes {
        0 => String::new(),
        resumed => format!(", of which {} had been sent before", bytes(resumed)),
    };
    format!(
        "{} of {} blobs sent ({}{before}), {} there already, {} mounted",
        totals.sent,
        totals.sent + totals.existed + totals.mounted,
        bytes(totals.sent_bytes),
        totals.existed,
        totals.mounted
    )
}

fn preview_text(previewed: &Previewed) -> String {
    let mut text = String::new();
    for (repository, blob) in &previewed.missing {
        _ = writeln!(text, "{} {:>10} to {repository}", blob.digest, blob.size);
    }
    for one in &previewed.references {
        _ = writeln!(text, "{} would be {}", one.to_reference(), one.digest);
    }
    _ = writeln!(
        text,
        "{} bytes in {} blobs would be sent; {} are there already, {} would be mounted",
        previewed.bytes(),
        previewed.missing.len(),
        previewed.present,
        previewed.mounts
    );
    text
}

fn preview_json(previewed: &Previewed) -> Value {
    let missing: Vec<_> = previewed
        .missing
        .iter()
        .map(|(repository, blob)| {
            json!({ "repository": repository.to_string(), "digest": blob.digest.to_string(), "size": blob.size })
        })
        .collect();
    json!({
        "references": references_json(&previewed.references),
        "bytes": previewed.bytes(),
        "missing": missing,
        "present": previewed.present,
        "mounts": previewed.mounts,
    })
}
