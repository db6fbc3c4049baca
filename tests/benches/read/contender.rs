//! Who takes part: each is a process of its own, so that starting up counts and memory is its own.

use std::env;
use std::path::Path;
use std::process::Command;

use registry_proto::Config;
use registry_proto::flow::{Copy, CopyOptions, Platforms, Pull, PullOptions};
use registry_proto::spec::Reference;
use registry_tests::bench::{Role, Who};
use registry_tests::runtimes::Runtime;

use crate::floor;
use crate::task::{Prepared, REPOSITORY, Task, To};

/// One who pulls and copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The requests and nothing else.
    Floor,
    /// The same, with every byte hashed: what nobody who verifies can be faster than.
    HashingFloor,
    /// Ours.
    Ours(Runtime),
    /// The command, to a docker-archive, for which it decompresses the layers.
    Skopeo,
    /// The command, to an archive that keeps them as they are.
    SkopeoOci,
    /// The crate, on tokio.
    OciClient,
}

/// What there is after a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// The image as it was.
    Image,
    /// An image that was made of it.
    AnotherImage,
    /// The config and the layers, one after another.
    Blobs,
}

impl Contender {
    pub(crate) const ALL: [Self; 8] = [
        Self::Floor,
        Self::HashingFloor,
        Self::Ours(Runtime::Tokio),
        Self::Ours(Runtime::Blocking),
        Self::Ours(Runtime::AsyncStd),
        Self::Skopeo,
        Self::SkopeoOci,
        Self::OciClient,
    ];

    /// Its name on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::HashingFloor => "hashing-floor",
            Self::Ours(Runtime::Tokio) => "tokio",
            Self::Ours(Runtime::Blocking) => "blocking",
            Self::Ours(Runtime::AsyncStd) => "async-std",
            Self::Ours(Runtime::Smol) => "smol",
            Self::Ours(Runtime::StdNet) => "std-net",
            Self::Skopeo => "skopeo",
            Self::SkopeoOci => "skopeo-oci",
            Self::OciClient => "oci-client",
        }
    }

    pub(crate) fn by_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contender| contender.word() == word)
    }

    /// Whether it is something that it does: oci-client copies nothing, and a copy has no form that skopeo could choose.
    pub(crate) const fn does(self, task: Task) -> bool {
        task.is_pull() || !matches!(self, Self::HashingFloor | Self::SkopeoOci | Self::OciClient)
    }

    /// How it takes part.
    pub(crate) fn who(self, task: Task) -> Who {
        let (role, title) = match self {
            Self::Floor => (Role::Floor, "floor".into()),
            Self::HashingFloor => (Role::Beside, "floor that hashes".into()),
            Self::Ours(runtime) => (Role::Ours(runtime), format!("**ours, {runtime}**")),
            Self::Skopeo if task.is_pull() => (Role::Rival, "skopeo copy … docker-archive: (decompresses)".into()),
            Self::Skopeo => (Role::Rival, "skopeo copy --preserve-digests".into()),
            Self::SkopeoOci => (Role::Rival, "skopeo copy … oci-archive:".into()),
            Self::OciClient => (Role::Rival, "oci-client 0.18.0".into()),
        };
        Who { word: self.word(), title, role, absence: self.absence() }
    }

    fn absence(self) -> Option<String> {
        match self {
            Self::Floor | Self::HashingFloor | Self::Ours(_) => None,
            Self::OciClient => (!cfg!(feature = "peers")).then(|| "built without `--features peers`".to_owned()),
            Self::Skopeo | Self::SkopeoOci => match Command::new("skopeo").arg("--version").output() {
                Ok(ran) if ran.status.success() => None,
                _ => Some("`skopeo` is not installed".to_owned()),
            },
        }
    }

    /// What there is after a pull of its.
    pub(crate) const fn wrote(self) -> Wrote {
        match self {
            Self::Ours(_) | Self::SkopeoOci => Wrote::Image,
            Self::Skopeo => Wrote::AnotherImage,
            Self::Floor | Self::HashingFloor | Self::OciClient => Wrote::Blobs,
        }
    }

    /// What to run.
    pub(crate) fn command(self, what: &Prepared, to: &To) -> Vec<String> {
        let host = what.source.host();
        let (verb, to) = match to {
            To::Archive(path) => ("pull", path.display().to_string()),
            To::Repository(None, repository) => ("copy", format!("{host}/{repository}")),
            To::Repository(Some(other), repository) => ("copy", format!("{}/{repository}", other.host())),
        };
        let from = format!("{host}/{REPOSITORY}");
        let words: Vec<&str> = match self {
            Self::Skopeo | Self::SkopeoOci => {
                let from = format!("docker://{from}:1");
                let (more, to) = match (verb, self) {
                    ("copy", _) => (&["--preserve-digests", "--dest-tls-verify=false"][..], format!("docker://{to}:1")),
                    (_, Self::SkopeoOci) => (&[][..], format!("oci-archive:{to}:1")),
                    _ => (&[][..], format!("docker-archive:{to}:bench:1")),
                };
                let command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"];
                let command = command.iter().chain(more).copied().map(str::to_owned);
                return command.chain([from, to]).collect();
            }
            _ => vec!["as", self.word(), verb, &from, &to],
        };
        let this = env::current_exe().unwrap().display().to_string();
        [this].into_iter().chain(words.into_iter().map(str::to_owned)).collect()
    }

    /// Does it, in the process that [`Contender::command`] started.
    pub(crate) fn act(self, verb: &str, from: &str, to: &str) -> Result<(), Box<dyn std::error::Error>> {
        let (host, repository) = parts(from)?;
        let reference = |name: &str| -> Result<Reference, _> { format!("{name}:1").parse() };
        match (self, verb) {
            (Self::Floor | Self::HashingFloor, "pull") => {
                floor::pull(host, repository, Path::new(to), self == Self::HashingFloor)?;
            }
            (Self::Floor, "copy") => match parts(to)? {
                (there, to) if there == host => floor::mount(host, repository, to)?,
                (there, to) => floor::pipe(host, repository, there, to)?,
            },
            (Self::Ours(runtime), "pull") => {
                let mut options = PullOptions::default();
                options.platforms = Platforms::Only("linux/amd64".parse()?);
                runtime.run(Config::default(), Pull::new([reference(from)?], to, options))?;
            }
            (Self::Ours(runtime), "copy") => {
                let flow = Copy::new(reference(from)?, reference(to)?, CopyOptions::default());
                runtime.run(Config::default(), flow)?;
            }
            (Self::OciClient, "pull") => oci_client(&format!("{from}:1"), Path::new(to))?,
            _ => return Err(format!("{} is not one to {verb}", self.word()).into()),
        }
        Ok(())
    }
}

fn parts(name: &str) -> Result<(&str, &str), String> {
    name.split_once('/').ok_or_else(|| format!("{name} is not HOST/REPOSITORY"))
}

/// The crate writes no archives, and yields layers in memory: they are put into a file one after another.
#[cfg(feature = "peers")]
fn oci_client(from: &str, to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    use std::fs::File;
    use std::io::Write;

    use oci_client::client::{ClientConfig, ClientProtocol};
    use oci_client::secrets::RegistryAuth;

    rustls::crypto::ring::default_provider().install_default().map_err(|_| "there is a TLS provider already")?;
    let client = oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let accepted = vec![oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE];
    let image = runtime.block_on(client.pull(&from.parse()?, &RegistryAuth::Anonymous, accepted))?;
    let manifest = image.manifest.ok_or("no manifest")?;
    let mut file = File::create(to)?;
    file.write_all(&image.config.data)?;
    // The layers come in the order in which they were done. The bench's are told apart by their sizes.
    for named in &manifest.layers {
        let layer = image.layers.iter().find(|layer| layer.data.len() as i64 == named.size);
        file.write_all(&layer.ok_or("a layer is missing")?.data)?;
    }
    Ok(())
}

#[cfg(not(feature = "peers"))]
fn oci_client(_: &str, _: &Path) -> Result<(), Box<dyn std::error::Error>> {
    Err("built without `--features peers`".into())
}
