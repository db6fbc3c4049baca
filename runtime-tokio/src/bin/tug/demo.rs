//! `demo`: a registry, an image, and the commands that work on them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use registry_tokio::Client;
use registry_tokio::proto::archive::make::{self, SampleImage};
use registry_tokio::proto::flow::{
    DeleteManifest, Destination, Inspect, ListCatalog, ListTags, Platforms, Pull, PullOptions, Push, PushOptions,
    Pushed, VerifyArchive,
};
use registry_tokio::proto::spec::{Digest, Reference, Repository};
use registry_tokio::proto::testing::registry::Registry;
use registry_tokio::serve::Server;

use crate::args::{Demo, Format, Voice};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::{inspect, pull, push, serve};

/// What the image made on the spot is called.
const NAME: &str = "hello:v1";

pub(crate) async fn demo(what: Demo, voice: Voice) -> Result<(), Trouble> {
    let server = Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(serve::profile()))
        .await
        .map_err(|why| Trouble::Other(format!("no port can be listened at: {why}")))?;
    let address = server.address();
    step("tug serve --addr 127.0.0.1:0", "a small registry, in memory, on a free port of this machine")?;
    shows(&format!("{address}\n"))?;

    let folder = Folder::new()?;
    let archive = match what.archive {
        Some(archive) => archive,
        None => folder.sample()?,
    };
    let shown = archive.display();
    step(&format!("tug push {shown} --prefix {address}"), "each image of the archive under its own tags")?;
    let client = Client::new()?;
    let progress = Progress::new(voice);
    let to = Destination::Below(address.to_string());
    let push = Push::new(archive.as_path(), to.clone(), PushOptions::default());
    let first = progress.run(&client, push).await?;
    report(&first)?;

    step(&format!("tug push {shown} --prefix {address}"), "the same again: it is there, so nothing is sent")?;
    // Another client, which knows nothing of what the first one sent.
    let push = Push::new(archive.as_path(), to, PushOptions::default());
    let second = progress.run(&Client::new()?, push).await?;
    report(&second)?;

    step(&format!("tug catalog {address}"), "what the registry holds now")?;
    let registry =
        address.to_string().parse().map_err(|why| Trouble::Other(format!("{address}: {why}: this is a bug")))?;
    shows(&lines(progress.run(&client, ListCatalog::new(registry).collected()).await?))?;
    let repositories: BTreeSet<&Repository> = first.references.iter().map(|one| &one.repository).collect();
    for repository in repositories {
        step(&format!("tug tags {repository}"), "under which tags")?;
        shows(&lines(progress.run(&client, ListTags::new(repository.clone()).collected()).await?))?;
    }

    let mut same = true;
    for (at, one) in first.references.iter().enumerate() {
        let reference = one.to_reference();
        step(&format!("tug inspect {reference}"), "an image in a registry, without pulling its layers")?;
        shows(&inspect::text(&progress.run(&client, Inspect::new(reference.clone())).await?))?;

        let pulled = folder.0.join(format!("pulled-{at}.tar"));
        step(
            &format!("tug pull {reference} {} --all-platforms", pulled.display()),
            "back into an archive, every byte verified",
        )?;
        let mut options = PullOptions::default();
        options.platforms = Platforms::All;
        let back = progress.run(&client, Pull::new([reference.clone()], &pulled, options)).await?;
        shows(&pull::text(&back.images))?;
        note(&pull::summary(&back.totals))?;
        let digests: Vec<&Digest> = back.images.iter().map(|image| &image.digest).collect();
        let verified = progress.run(&client, VerifyArchive::new(pulled.as_path())).await?;
        let is_same = digests == [&one.digest] && verified.is_whole();
        note(if is_same { "what came back is the same" } else { "what came back is NOT the same" })?;
        same &= is_same;
    }
    if !same {
        return Err(Trouble::Other("what came back is not what was pushed: this is a bug".to_owned()));
    }

    for one in &first.references {
        let reference = one.to_reference();
        step(&format!("tug delete {}@{}", reference.repository(), one.digest), "and gone")?;
        let by_digest = Reference::new(reference.repository().clone()).with_digest(one.digest.clone());
        match progress.run(&client, DeleteManifest::new(&by_digest)).await {
            // Two tags of one image: it went with the first.
            Err(Trouble::Operation(why)) if why.status().is_some_and(|status| status.as_u16() == 404) => {
                note("it went with another tag")?;
            }
            deleted => shows(&format!("{}\n", deleted?.to_reference()))?,
        }
    }
    Ok(())
}

fn report(pushed: &Pushed) -> Result<(), Trouble> {
    shows(&push::references_text(&pushed.references))?;
    note(&push::summary(&pushed.totals))
}

fn lines(names: Vec<String>) -> String {
    names.into_iter().map(|name| name + "\n").collect()
}

/// What the command prints.
fn shows(text: &str) -> Result<(), Trouble> {
    text.lines().try_for_each(|line| say(format_args!("  {line}\n")))
}

/// What it tells people, or what is to be said about it.
fn note(text: &str) -> Result<(), Trouble> {
    say(format_args!("  # {text}\n"))
}

fn step(command: &str, what: &str) -> Result<(), Trouble> {
    say(format_args!("\n$ {command}\n  # {what}\n"))
}

fn say(text: std::fmt::Arguments<'_>) -> Result<(), Trouble> {
    print(Format::Text, text, || unreachable!("the demo speaks text"))
}

/// A folder of our own that goes away with us.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Trouble> {
        let path = std::env::temp_dir().join(format!("tug-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|why| trouble(&path, &why))?;
        Ok(Self(path))
    }

    /// An image as `docker save` writes it.
    fn sample(&self) -> Result<PathBuf, Trouble> {
        let layers: [Vec<u8>; 3] =
            [(1 << 20, b'a'), (300_000, b'b'), (20_000, b'c')].map(|(size, byte)| vec![byte; size]);
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let image = SampleImage::new(&[NAME], &layers);
        let path = self.0.join("hello.tar");
        std::fs::write(&path, make::docker_save_legacy(&[image])).map_err(|why| trouble(&path, &why))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn trouble(path: &Path, why: &std::io::Error) -> Trouble {
    Trouble::Other(format!("{}: {why}", path.display()))
}
