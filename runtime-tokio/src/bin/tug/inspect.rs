//! `inspect`, `digest`, `manifest` and `config`: what there is to know without pulling.

use std::path::Path;

use registry_tokio::Client;
use registry_tokio::proto::flow::{FetchConfig, FetchManifest, Inspect, Inspected, Resolve};
use registry_tokio::proto::spec::{Platform, Reference};
use serde_json::json;

use crate::args::{Access, Look, RawConfig, RawManifest, Voice, reference};
use crate::image::{Facts, describe, line};
use crate::output::{Trouble, print, print_raw};
use crate::progress::Progress;
use crate::stored::Party;
use crate::{archive, image, setup};

/// What is looked at: what is there as a file is an archive, anything else is in a registry.
enum Subject<'a> {
    Archive(&'a Path),
    Image(Reference),
}

fn subject(what: &Look) -> Result<Subject<'_>, Trouble> {
    let path = Path::new(&what.subject);
    if path.as_os_str() == "-" || path.exists() {
        return Ok(Subject::Archive(path));
    }
    let text = what.subject.to_string_lossy();
    if text.starts_with(['/', '.', '~']) {
        return Err(Trouble::Other(format!("{text}: there is no such file or folder")));
    }
    match reference(&text) {
        Ok(reference) => Ok(Subject::Image(reference)),
        Err(why) => Err(Trouble::Usage(format!("{text} is no file here, and no reference either: {why}"))),
    }
}

fn client(access: &Access, reference: &Reference) -> Result<Client, Trouble> {
    setup::client(access, None, &[Party::from(reference)])
}

pub(crate) async fn inspect(what: Look, voice: Voice) -> Result<(), Trouble> {
    let reference = match subject(&what)? {
        Subject::Archive(path) => return archive::inspect(path, what.format, voice).await,
        Subject::Image(reference) => reference,
    };
    let found = Progress::new(voice).run(&client(&what.access, &reference)?, Inspect::new(reference)).await?;
    print(what.format.format, text(&found), || {
        let mut value = image::json(&Facts::from(&found));
        value["reference"] = json!(found.reference.clone().with_default_tag().to_string());
        value
    })
}

/// What there is to know of an image, line by line.
pub(crate) fn text(found: &Inspected) -> String {
    let mut text = String::new();
    line(&mut text, "name", &found.reference.clone().with_default_tag().familiar());
    describe(&mut text, &Facts::from(found));
    text
}

pub(crate) async fn digest(what: Look, voice: Voice) -> Result<(), Trouble> {
    let reference = match subject(&what)? {
        Subject::Archive(path) => return archive::digest(path, what.format, voice).await,
        Subject::Image(reference) => reference,
    };
    let found = Progress::new(voice).run(&client(&what.access, &reference)?, Resolve::new(reference.clone())).await?;
    print(what.format.format, format_args!("{}\n", found.digest), || {
        json!({
            "reference": reference.with_default_tag().to_string(),
            "digest": found.digest,
            "mediaType": found.media_type,
            "size": found.size,
        })
    })
}

pub(crate) async fn manifest(what: RawManifest, voice: Voice) -> Result<(), Trouble> {
    let client = client(&what.access, &what.reference)?;
    let manifest = Progress::new(voice).run(&client, FetchManifest::new(&what.reference)).await?;
    print_raw(manifest.bytes())
}

pub(crate) async fn config(what: RawConfig, voice: Voice) -> Result<(), Trouble> {
    let client = client(&what.access, &what.reference)?;
    let platform = what.platform.unwrap_or_else(Platform::of_this_machine);
    let bytes = Progress::new(voice).run(&client, FetchConfig::new(what.reference, platform)).await?;
    print_raw(&bytes)
}
