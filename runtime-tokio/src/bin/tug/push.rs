//! `push`.

use std::fmt::Write as _;

use registry_tokio::pack;
use registry_tokio::proto::archive::{Archive, Compressor};
use registry_tokio::proto::flow::{
    Destination, Preview, Previewed, Push as Pushing, PushFeed, PushOptions, Pushed, PushedReference, ReadFeed, Totals,
};
use registry_tokio::proto::spec::Reference;
use serde_json::{Value, json};

use crate::args::{Compress, Push, Voice};
use crate::output::{Trouble, bytes, print};
use crate::progress::Progress;
use crate::source::Source;
use crate::stored::Party;
use crate::{resume, setup};

pub(crate) async fn push(what: Push, voice: Voice) -> Result<(), Trouble> {
    let progress = Progress::new(voice);
    let source = source(&what)?;
    check(&source, &what)?;
    // A tar that is read in place says what it holds when it is pushed; what goes by has to go by for that.
    let known = match &source {
        Source::Packed(_) => Some(look(&source, &what, &progress).await?),
        Source::Input if what.dry_run => Some(look(&source, &what, &progress).await?),
        Source::Place(_) if what.reference.is_none() && what.prefix.is_none() => {
            Some(look(&source, &what, &progress).await?)
        }
        Source::Place(_) | Source::Input => None,
    };
    let parties = match (&what.reference, &what.prefix) {
        (Some(reference), _) => vec![Party::from(reference)],
        (None, Some(prefix)) => vec![below(prefix)?],
        (None, None) => known.as_ref().map(named).unwrap_or_default(),
    };
    let client = setup::client(&what.access, Some(&what.upload), &parties)?;
    let compress = what.compress;
    let mut options = PushOptions::default();
    (options.image, options.platform) = (what.image, what.platform);
    let to = match (what.reference, what.prefix) {
        (Some(reference), _) => Destination::Reference(reference),
        (None, Some(prefix)) => Destination::Below(prefix),
        (None, None) => Destination::OriginalTags,
    };
    if what.dry_run {
        let flow = match (&source, known) {
            (Source::Packed(_) | Source::Input, Some(archive)) => Preview::known(archive, to, options),
            _ => Preview::new(what.archive, to, options),
        };
        let previewed = progress.run(&client, flow).await?;
        return print(what.format.format, preview_text(&previewed), || preview_json(&previewed));
    }
    let left = match compress {
        None => {
            "no tag leads to anything new yet; the same command begins anew, and sends no blob that is there already"
        }
        Some(_) => "no tag leads to anything new yet; the same command begins anew",
    };
    let pushed = match (&source, known, to) {
        (Source::Packed(_), Some(archive), to) => {
            let push = PushFeed::again(source.feed()?, archive, to, options);
            let pushed = progress.run(&client, compressing(push, compress)).await;
            pushed.map_err(|why| {
                why.if_stopped("the same command begins anew, and sends no blob that is there already")
            })?
        }
        (Source::Input, _, Destination::Reference(to)) => {
            let push = PushFeed::new(source.feed()?, to, options);
            progress.run(&client, compressing(push, compress)).await.map_err(|why| why.if_stopped(left))?
        }
        (_, _, to) => {
            let otherwise = "the same command sends only what is missing; with --resume FILE, it also goes on in the middle \
                             of a blob";
            let flow = Pushing::new(what.archive, to, options);
            resume::run(&progress, &client, flow, what.resume.as_deref(), otherwise).await?
        }
    };
    progress.say(summary(&pushed.totals));
    print(what.format.format, references_text(&pushed.references), || pushed_json(&pushed))
}

/// Where the archive comes from. What is to be compressed goes by, too.
fn source(what: &Push) -> Result<Source, Trouble> {
    match Source::of(&what.archive) {
        Source::Place(path) if what.compress.is_some() => {
            if path.is_dir() {
                let why = format!("--compress takes a tar: `tar c -C {} . | tug push - …`", path.display());
                return Err(Trouble::Usage(why));
            }
            Ok(Source::Packed(path))
        }
        source => Ok(source),
    }
}

fn compressor(compress: Option<Compress>) -> Option<Compressor> {
    compress.map(|format| match format {
        Compress::Gzip => pack::gzip(),
        Compress::Zstd => pack::zstd(),
    })
}

fn compressing(push: PushFeed, compress: Option<Compress>) -> PushFeed {
    match compressor(compress) {
        None => push,
        Some(compressor) => push.compressing(compressor),
    }
}

/// What can't be done with what goes by, and with what comes by standard input.
fn check(source: &Source, what: &Push) -> Result<(), Trouble> {
    if what.resume.is_some() && !matches!(source, Source::Place(_)) {
        let why = "--resume needs an archive that is read in place: what is compressed, or comes by standard input, goes by \
                   once; decompress or save it to a file first";
        return Err(Trouble::Usage(why.to_owned()));
    }
    if !matches!(source, Source::Input) {
        return Ok(());
    }
    if what.access.password_stdin {
        let why = "standard input can't be both the archive and the password: log in first (`tug login`)";
        return Err(Trouble::Usage(why.to_owned()));
    }
    if what.reference.is_none() && !what.dry_run {
        let why = "standard input goes by before it has told its images' names: say where it shall go, as in \
                   `tug push - localhost:5000/app:v1`, or save it to a file first";
        return Err(Trouble::Usage(why.to_owned()));
    }
    Ok(())
}

/// Whom a push below a prefix talks to.
fn below(prefix: &str) -> Result<Party, Trouble> {
    // Only with something behind it is a prefix a reference; a bare host is one, too.
    let below = format!("{}/x", prefix.trim_end_matches('/'));
    let reference: Reference = below.parse().map_err(|why| Trouble::Usage(format!("--prefix {prefix}: {why}")))?;
    Ok(Party::from(&reference))
}

/// What an archive holds, before anybody is asked anything.
async fn look(source: &Source, what: &Push, progress: &Progress) -> Result<Archive, Trouble> {
    let reader = setup::build(&what.access, setup::config(&what.access, None))?;
    if !matches!(source, Source::Place(_)) {
        // That takes as long as the archive is large.
        progress.say(format_args!("reading {}, to see what it holds", source.name().display()));
    }
    match compressor(what.compress) {
        None => source.read(&reader, progress).await,
        Some(compressor) => {
            let found = progress.run(&reader, ReadFeed::new(source.feed()?).compressing(compressor)).await?;
            Ok(found.into_result().map_err(registry_tokio::proto::Error::from)?)
        }
    }
}

/// Whom a push talks to that goes where the archive says.
fn named(archive: &Archive) -> Vec<Party> {
    let mut parties: Vec<Party> = Vec::new();
    for party in archive.images().iter().flat_map(|image| image.names()).filter_map(|name| name.reference()) {
        let party = Party::from(party);
        if !parties.contains(&party) {
            parties.push(party);
        }
    }
    parties
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
