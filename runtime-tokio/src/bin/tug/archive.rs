//! `digest`, `inspect` and `validate` of archives: nothing here talks to a registry.

use std::fmt::Write as _;
use std::path::Path;

use registry_tokio::Client;
use registry_tokio::proto::Error;
use registry_tokio::proto::archive::{Archive, ArchiveImage, ArchiveKind};
use registry_tokio::proto::flow::{Verified, VerifyArchive};
use serde_json::{Value, json};

use crate::args::{FormatArg, OfArchive, Voice};
use crate::image::{self, Facts, describe, line};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::source::Source;

async fn read(path: &Path, voice: Voice) -> Result<Archive, Trouble> {
    let progress = Progress::new(voice);
    let archive = Source::of(path).read(&Client::new()?, &progress).await?;
    for note in archive.notes() {
        progress.say(format_args!("note: {note}"));
    }
    Ok(archive)
}

pub(crate) async fn digest(path: &Path, format: FormatArg, voice: Voice) -> Result<(), Trouble> {
    let archive = read(path, voice).await?;
    let text = match archive.images() {
        [only] => format!("{}\n", only.root().digest()),
        several => several.iter().fold(String::new(), |mut text, image| {
            _ = writeln!(text, "{} {}", image.root().digest(), names(image).join(" "));
            text
        }),
    };
    print(format.format, text, || {
        let images = archive.images().iter();
        images.map(|image| json!({ "digest": image.root().digest().to_string(), "names": names(image) })).collect()
    })
}

pub(crate) async fn inspect(path: &Path, format: FormatArg, voice: Voice) -> Result<(), Trouble> {
    let archive = read(path, voice).await?;
    let mut text = format!("{}: {}\n", archive.path().display(), kind(archive.kind()).1);
    for image in archive.images() {
        text.push('\n');
        for name in names(image) {
            line(&mut text, "name", name);
        }
        describe(&mut text, &Facts::from(image));
    }
    print(format.format, text, || {
        json!({
            "kind": kind(archive.kind()).0,
            "images": archive.images().iter().map(image_json).collect::<Vec<_>>(),
            "notes": archive.notes(),
        })
    })
}

pub(crate) async fn validate(what: OfArchive, voice: Voice) -> Result<(), Trouble> {
    let progress = Progress::new(voice);
    let (client, source) = (Client::new()?, Source::of(&what.archive));
    let faults = match &source {
        Source::Place(path) => faults(&progress.run(&client, VerifyArchive::new(path.as_path())).await?),
        // Every byte of what goes by is looked at on the way.
        Source::Packed(_) | Source::Input => match source.examine(&client, &progress).await {
            Ok(found) => found.faults.iter().map(ToString::to_string).collect(),
            Err(Trouble::Operation(Error::Archive(why))) => vec![why.to_string()],
            Err(why) => return Err(why),
        },
    };
    let text = if faults.is_empty() { "ok\n".to_owned() } else { faults.join("\n") + "\n" };
    print(what.format.format, text, || json!({ "ok": faults.is_empty(), "faults": faults }))?;
    if faults.is_empty() {
        return Ok(());
    }
    let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
    Err(Trouble::Other(format!("{}: {count} fault{s} found", source.name().display())))
}

fn faults(verified: &Verified) -> Vec<String> {
    let documents = verified.faults.iter().map(ToString::to_string);
    let blobs = verified.damaged.iter().map(|(digest, why)| format!("blob {digest} is damaged: {why}"));
    documents.chain(blobs).collect()
}

fn names(image: &ArchiveImage) -> Vec<&str> {
    image.names().iter().map(|name| name.as_written()).collect()
}

/// A kind's word in JSON, and what people call it.
const fn kind(kind: ArchiveKind) -> (&'static str, &'static str) {
    match kind {
        ArchiveKind::DockerSave => ("docker-save", "a `docker save` tar"),
        ArchiveKind::DockerSaveOci => ("docker-save-oci", "a `docker save` tar that is an OCI archive, too"),
        ArchiveKind::OciArchive => ("oci-archive", "an OCI archive"),
        ArchiveKind::OciFolder => ("oci-folder", "an OCI layout folder"),
        _ => ("other", "an image archive"),
    }
}

fn image_json(image: &ArchiveImage) -> Value {
    let mut value = image::json(&Facts::from(image));
    value["names"] = json!(names(image));
    value
}
