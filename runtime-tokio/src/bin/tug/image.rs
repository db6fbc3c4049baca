//! An image as `inspect` shows it, whether it lies in an archive or in a registry: one layout, one JSON.

use std::fmt::Write as _;

use registry_tokio::proto::archive::ArchiveImage;
use registry_tokio::proto::flow::Inspected;
use registry_tokio::proto::spec::{Descriptor, ImageConfig, ImageManifest, Manifest, Platform, escaped};
use serde_json::{Value, json};

use crate::output::bytes;

/// How much of the command that made a layer is shown.
const COMMAND_WIDTH: usize = 60;

/// What is known of an image or an index.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    manifest: &'a Manifest,
    config: Option<&'a ImageConfig>,
    children: Vec<Child<'a>>,
    notes: &'a [String],
    /// Of all its layers and configurations, in bytes.
    size: u64,
}

/// What is known of one entry of an index.
#[derive(Debug)]
struct Child<'a> {
    descriptor: &'a Descriptor,
    manifest: Option<&'a Manifest>,
    config: Option<&'a ImageConfig>,
    notes: &'a [String],
}

impl<'a> From<&'a Inspected> for Facts<'a> {
    fn from(found: &'a Inspected) -> Self {
        let children = found.children.iter().map(|child| Child {
            descriptor: &child.descriptor,
            manifest: child.manifest.as_ref(),
            config: child.config.as_ref(),
            notes: &child.notes,
        });
        Self {
            manifest: &found.manifest,
            config: found.config.as_ref(),
            children: children.collect(),
            notes: &found.notes,
            size: found.total_size(),
        }
    }
}

impl<'a> From<&'a ArchiveImage> for Facts<'a> {
    fn from(image: &'a ArchiveImage) -> Self {
        let held = |one: &Descriptor| image.manifests().iter().find(|manifest| *manifest.digest() == one.digest);
        let listed = image.root().index().map_or(&[][..], |index| &index.manifests);
        let children =
            listed.iter().map(|descriptor| Child { descriptor, manifest: held(descriptor), config: None, notes: &[] });
        Self {
            manifest: image.root(),
            config: image.config(),
            children: children.collect(),
            notes: &[],
            size: distinct(image.manifests().iter()),
        }
    }
}

/// The sizes of all blobs of these manifests, shared ones once.
fn distinct<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let blobs = manifests.filter_map(Manifest::image).flat_map(ImageManifest::blobs);
    blobs.filter(|blob| seen.insert(&blob.digest)).fold(0, |sum, blob| sum.saturating_add(blob.size))
}

pub(crate) fn line(text: &mut String, name: &str, value: &str) {
    _ = writeln!(text, "{name:<12}{}", escaped(value));
}

/// A line for each fact.
pub(crate) fn describe(text: &mut String, facts: &Facts<'_>) {
    line(text, "digest", facts.manifest.digest().as_str());
    line(text, "media type", facts.manifest.media_type().as_str());
    if let Some(config) = facts.config {
        describe_config(text, config);
    }
    if let Some(image) = facts.manifest.image() {
        describe_layers(text, image, facts.config);
    }
    for child in &facts.children {
        line(text, "manifest", &format!("{} {}", child.descriptor.digest, child.summary()));
    }
    if !facts.children.is_empty() {
        line(text, "size", &bytes(facts.size).to_string());
    }
    for note in facts.notes {
        line(text, "note", note);
    }
}

fn describe_config(text: &mut String, config: &ImageConfig) {
    line(text, "platform", &config.platform().to_string());
    line(text, "created", config.created.as_deref().unwrap_or("-"));
    let mut named = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line(text, name, value);
        }
    };
    let run = &config.config;
    named("author", config.author.as_deref());
    named("user", run.user.as_deref());
    named("directory", run.working_dir.as_deref());
    named("entrypoint", Some(&run.entrypoint.join(" ")));
    named("command", Some(&run.cmd.join(" ")));
    for port in &run.exposed_ports {
        named("port", Some(port));
    }
    for variable in &run.env {
        named("env", Some(variable));
    }
    for (label, value) in &run.labels {
        named("label", Some(&format!("{label}={value}")));
    }
}

fn describe_layers(text: &mut String, manifest: &ImageManifest, config: Option<&ImageConfig>) {
    let steps: Vec<_> = config.iter().flat_map(|config| &config.history).filter(|step| !step.empty_layer).collect();
    for (at, layer) in manifest.layers.iter().enumerate() {
        let mut value = format!("{} {:>12}", layer.digest.short(), bytes(layer.size).to_string());
        // Only a history that is complete tells which step made which layer.
        let step = steps.get(at).filter(|_| steps.len() == manifest.layers.len());
        if let Some(command) = step.and_then(|step| step.created_by.as_deref()) {
            let words: String = command.split_whitespace().collect::<Vec<_>>().join(" ");
            value = format!("{value}  {}", words.chars().take(COMMAND_WIDTH).collect::<String>());
        }
        line(text, "layer", &value);
    }
    let s = if manifest.layers.len() == 1 { "" } else { "s" };
    line(text, "size", &format!("{} in {} layer{s}", bytes(manifest.total_size()), manifest.layers.len()));
}

impl Child<'_> {
    fn platform(&self) -> Option<Platform> {
        self.descriptor.platform.clone().or_else(|| self.config.map(ImageConfig::platform))
    }

    fn summary(&self) -> String {
        let mut summary = if self.descriptor.is_attestation() {
            let about = self.descriptor.attests();
            about.map_or_else(|| "attestation".to_owned(), |about| format!("attestation of {}", about.short()))
        } else {
            self.platform().map_or_else(|| "-".to_owned(), |platform| platform.to_string())
        };
        if let Some(image) = self.manifest.and_then(Manifest::image) {
            let s = if image.layers.len() == 1 { "" } else { "s" };
            _ = write!(summary, ", {} in {} layer{s}", bytes(image.total_size()), image.layers.len());
        }
        for note in self.notes {
            _ = write!(summary, " ({note})");
        }
        summary
    }
}

/// Everything as JSON; documented in the help of `inspect`.
pub(crate) fn json(facts: &Facts<'_>) -> Value {
    let mut value = manifest_json(facts.manifest, facts.config);
    value["size"] = json!(facts.size);
    if facts.manifest.index().is_some() {
        value["manifests"] = facts.children.iter().map(Child::json).collect();
    }
    if !facts.notes.is_empty() {
        value["notes"] = json!(facts.notes);
    }
    value
}

impl Child<'_> {
    fn json(&self) -> Value {
        let mut value = json!(self.descriptor);
        value["attestation"] = json!(self.descriptor.is_attestation());
        if let Some(manifest) = self.manifest {
            value["image"] = manifest_json(manifest, self.config);
            value["image"]["size"] = json!(distinct(std::iter::once(manifest)));
        }
        if !self.notes.is_empty() {
            value["notes"] = json!(self.notes);
        }
        value
    }
}

fn manifest_json(manifest: &Manifest, config: Option<&ImageConfig>) -> Value {
    let mut value = json!({ "digest": manifest.digest(), "mediaType": manifest.media_type() });
    if let Some(image) = manifest.image() {
        value["config"] = json!(image.config);
        value["layers"] = json!(image.layers);
        value["artifactType"] = json!(image.artifact_type);
        value["annotations"] = json!(image.annotations);
    }
    if let Some(index) = manifest.index() {
        value["artifactType"] = json!(index.artifact_type);
        value["annotations"] = json!(index.annotations);
    }
    if let Some(config) = config {
        config_json(&mut value, config);
    }
    value
}

fn config_json(value: &mut Value, config: &ImageConfig) {
    let run = &config.config;
    value["platform"] = json!(config.platform().to_string());
    value["created"] = json!(config.created);
    value["author"] = json!(config.author);
    value["user"] = json!(run.user);
    value["workingDir"] = json!(run.working_dir);
    value["env"] = json!(run.env);
    value["entrypoint"] = json!(run.entrypoint);
    value["cmd"] = json!(run.cmd);
    value["labels"] = json!(run.labels);
    value["exposedPorts"] = run.exposed_ports.iter().map(String::as_str).collect();
    let steps = config.history.iter().map(|step| {
        json!({
            "created": step.created,
            "createdBy": step.created_by,
            "comment": step.comment,
            "emptyLayer": step.empty_layer,
        })
    });
    value["history"] = steps.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_paint_the_terminal() {
        let mut text = String::new();
        line(&mut text, "label", "a=\x1b[31mred\nnext\u{9b}1m é \u{202e}\u{2066}\u{200f}\u{61c}");
        let expected = "a=\\u{1b}[31mred\\nnext\\u{9b}1m é \\u{202e}\\u{2066}\\u{200f}\\u{61c}";
        assert_eq!(text, format!("label       {expected}\n"));
    }
}
