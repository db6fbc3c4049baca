//! `digest`, `inspect` and `validate` of archives: nothing here talks to a registry.

use std::fmt::Write as _;

use registry_tokio::Client;
use registry_tokio::proto::archive::{Archive, ArchiveImage, ArchiveKind};
use registry_tokio::proto::flow::{ReadArchive, Verified, VerifyArchive};
use registry_tokio::proto::spec::{ImageConfig, ImageManifest, Manifest, ManifestContent};
use serde_json::{Value, json};

use crate::args::{OfArchive, Voice};
use crate::output::{Trouble, bytes, print};
use crate::progress::{Progress, short};

async fn read(what: &OfArchive, voice: Voice) -> Result<Archive, Trouble> {
    let progress = Progress::new(voice);
    let archive = progress.run(&Client::new()?, ReadArchive::new(what.archive.as_path())).await?;
    for note in archive.notes() {
        progress.say(format_args!("note: {note}"));
    }
    Ok(archive)
}

pub(crate) async fn digest(what: OfArchive, voice: Voice) -> Result<(), Trouble> {
    let archive = read(&what, voice).await?;
    let text = match archive.images() {
        [only] => format!("{}\n", only.root().digest()),
        several => several.iter().fold(String::new(), |mut text, image| {
            _ = writeln!(text, "{} {}", image.root().digest(), names(image).join(" "));
            text
        }),
    };
    print(what.format.format, text, || {
        let images = archive.images().iter();
        images.map(|image| json!({ "digest": image.root().digest().to_string(), "names": names(image) })).collect()
    })
}

pub(crate) async fn inspect(what: OfArchive, voice: Voice) -> Result<(), Trouble> {
    let archive = read(&what, voice).await?;
    let mut text = format!("{}: {}\n", archive.path().display(), kind(archive.kind()).1);
    for image in archive.images() {
        text.push('\n');
        describe(&mut text, image);
    }
    print(what.format.format, text, || {
        json!({
            "kind": kind(archive.kind()).0,
            "images": archive.images().iter().map(image_json).collect::<Vec<_>>(),
            "notes": archive.notes(),
        })
    })
}

pub(crate) async fn validate(what: OfArchive, voice: Voice) -> Result<(), Trouble> {
    let progress = Progress::new(voice);
    let verified = progress.run(&Client::new()?, VerifyArchive::new(what.archive.as_path())).await?;
    let faults = faults(&verified);
    let text = if faults.is_empty() { "ok\n".to_owned() } else { faults.join("\n") + "\n" };
    print(what.format.format, text, || json!({ "ok": verified.is_whole(), "faults": faults }))?;
    if verified.is_whole() {
        return Ok(());
    }
    let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
    Err(Trouble::Other(format!("{}: {count} fault{s} found", what.archive.display())))
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

fn describe(text: &mut String, image: &ArchiveImage) {
    let mut line = |name: &str, value: &str| _ = writeln!(text, "{name:<12}{value}");
    for name in names(image) {
        line("name", name);
    }
    line("digest", image.root().digest().as_str());
    line("media type", image.root().media_type().as_str());
    if let Some(config) = image.config() {
        line("platform", &config.platform().to_string());
        line("created", config.created.as_deref().unwrap_or("-"));
        let command: Vec<_> = config.config.entrypoint.iter().chain(&config.config.cmd).map(String::as_str).collect();
        if !command.is_empty() {
            line("command", &command.join(" "));
        }
        for variable in &config.config.env {
            line("env", variable);
        }
        for (label, value) in &config.config.labels {
            line("label", &format!("{label}={value}"));
        }
    }
    match image.root().content() {
        ManifestContent::Image(manifest) => layers(text, manifest),
        ManifestContent::Index(index) => {
            for one in &index.manifests {
                let platform = one.platform.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
                _ = writeln!(text, "{:<12}{} {platform}", "manifest", one.digest);
            }
            _ = writeln!(text, "{:<12}{}", "size", bytes(total(image)));
        }
        _ => {}
    }
}

fn layers(text: &mut String, manifest: &ImageManifest) {
    for layer in &manifest.layers {
        _ = writeln!(text, "{:<12}{} {:>12}", "layer", short(&layer.digest), bytes(layer.size).to_string());
    }
    let total: u64 = manifest.blobs().map(|blob| blob.size).sum();
    _ = writeln!(text, "{:<12}{} in {} layers", "size", bytes(total), manifest.layers.len());
}

/// The sizes of all blobs of all its manifests, shared ones once.
fn total(image: &ArchiveImage) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let blobs = image.manifests().iter().filter_map(Manifest::image).flat_map(ImageManifest::blobs);
    blobs.filter(|blob| seen.insert(&blob.digest)).map(|blob| blob.size).sum()
}

fn image_json(image: &ArchiveImage) -> Value {
    let mut value = json!({
        "names": names(image),
        "digest": image.root().digest().to_string(),
        "mediaType": image.root().media_type().as_str(),
        "size": total(image),
    });
    if let Some(manifest) = image.root().image() {
        value["layers"] = json!(manifest.layers);
    }
    if let Some(index) = image.root().index() {
        value["manifests"] = json!(index.manifests);
    }
    if let Some(config) = image.config() {
        merge(&mut value, config);
    }
    value
}

fn merge(value: &mut Value, config: &ImageConfig) {
    value["platform"] = json!(config.platform().to_string());
    value["created"] = json!(config.created);
    value["env"] = json!(config.config.env);
    value["entrypoint"] = json!(config.config.entrypoint);
    value["cmd"] = json!(config.config.cmd);
    value["labels"] = json!(config.config.labels);
}
