//! `demo`: a registry, an image, and the commands that work on them.

use std::path::{Path, PathBuf};

use registry_tokio::Client;
use registry_tokio::proto::archive::make::{self, SampleImage};
use registry_tokio::proto::flow::{Destination, Push, PushOptions, Pushed};
use registry_tokio::proto::testing::registry::{Profile, Registry};
use registry_tokio::serve::Server;

use crate::args::{Demo, Format, Voice};
use crate::output::{Trouble, bytes, print};
use crate::progress::Progress;

/// What the image made on the spot is called.
const NAME: &str = "hello:v1";

pub(crate) async fn demo(what: Demo, voice: Voice) -> Result<(), Trouble> {
    let server = Server::bind(([127, 0, 0, 1], 0).into(), Registry::new(Profile::distribution_3()))
        .await
        .map_err(|why| Trouble::Other(format!("no port can be listened at: {why}")))?;
    let address = server.address();
    step("tug serve --addr 127.0.0.1:0", "a small registry, in memory, on a free port of this machine")?;
    say(format_args!("  {address}\n"))?;

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

    step("(looking into the registry)", "what it holds now")?;
    for one in &first.references {
        let (repository, reference) = (one.repository.name().as_str(), one.reference.to_string());
        let held = server.registry(|registry| registry.manifest(repository, &reference));
        let (manifest, media_type) =
            held.ok_or_else(|| Trouble::Other(format!("{} is not there: this is a bug", one.to_reference())))?;
        say(format_args!("  {}\n    {} ({media_type}, {} bytes)\n", one.to_reference(), one.digest, manifest.len()))?;
    }
    Ok(())
}

fn report(pushed: &Pushed) -> Result<(), Trouble> {
    for one in &pushed.references {
        say(format_args!("  {} {}\n", one.digest, one.to_reference()))?;
    }
    let totals = &pushed.totals;
    say(format_args!("  {} blobs sent, {}\n", totals.sent, bytes(totals.sent_bytes)))
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
