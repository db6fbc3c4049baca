//! Who takes part: each is a process of its own, so that starting up counts and memory is its own.

use std::env;
use std::io;
use std::path::Path;
use std::process::Command;

use registry_proto::Config;
use registry_proto::flow::{Destination, Push, PushOptions};
use registry_tests::bench::{Role, Who};
use registry_tests::runtimes::Runtime;

use crate::floor;
use crate::workload::{Plan, Prepared, shared};

/// One who pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The requests and nothing else.
    Floor,
    /// Ours.
    Ours(Runtime),
    /// The command, one request after another.
    Curl,
    /// The command with the layers as they are, as all others send them.
    Skopeo,
    /// The command as it comes: it compresses layers that are not.
    SkopeoGzip,
    /// The crate, on tokio.
    OciClient,
}

impl Contender {
    pub(crate) const ALL: [Self; 8] = [
        Self::Floor,
        Self::Ours(Runtime::Tokio),
        Self::Ours(Runtime::Blocking),
        Self::Ours(Runtime::AsyncStd),
        Self::Curl,
        Self::Skopeo,
        Self::SkopeoGzip,
        Self::OciClient,
    ];

    /// Its name on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ours(Runtime::Tokio) => "tokio",
            Self::Ours(Runtime::Blocking) => "blocking",
            Self::Ours(Runtime::AsyncStd) => "async-std",
            Self::Ours(Runtime::Smol) => "smol",
            Self::Ours(Runtime::StdNet) => "std-net",
            Self::Curl => "curl",
            Self::Skopeo => "skopeo",
            Self::SkopeoGzip => "skopeo-gzip",
            Self::OciClient => "oci-client",
        }
    }

    pub(crate) fn by_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contender| contender.word() == word)
    }

    fn title(self) -> String {
        match self {
            Self::Floor => "floor".into(),
            Self::Ours(runtime) => format!("**ours, {runtime}**"),
            Self::Curl => "curl, one request after another".into(),
            Self::Skopeo => "skopeo copy --preserve-digests".into(),
            Self::SkopeoGzip => "skopeo copy (compresses)".into(),
            Self::OciClient => "oci-client 0.18.0".into(),
        }
    }

    /// How it takes part.
    pub(crate) fn who(self) -> Who {
        let role = match self {
            Self::Floor => Role::Floor,
            Self::Ours(runtime) => Role::Ours(runtime),
            Self::Curl => Role::Beside,
            Self::Skopeo | Self::SkopeoGzip | Self::OciClient => Role::Rival,
        };
        Who { word: self.word(), title: self.title(), role, absence: self.absence() }
    }

    fn absence(self) -> Option<String> {
        let program = match self {
            Self::Floor | Self::Ours(_) => return None,
            Self::OciClient => {
                let missing = (!cfg!(feature = "peers")).then(|| "built without `--features peers`".to_owned());
                return missing;
            }
            Self::Curl => "curl",
            Self::Skopeo | Self::SkopeoGzip => "skopeo",
        };
        match Command::new(program).arg("--version").output() {
            Ok(ran) if ran.status.success() => None,
            _ => Some(format!("`{program}` is not installed")),
        }
    }

    /// Whether what it pushes has the archive's digest; skopeo and oci-client write manifests of their own.
    pub(crate) const fn keeps_the_digest(self) -> bool {
        matches!(self, Self::Floor | Self::Ours(_) | Self::Curl)
    }

    /// What to run to push an archive to `repository:1` at a registry.
    pub(crate) fn command(self, what: &Prepared, host: &str, repository: &str) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let skopeo = |more: &[&str]| {
            let archive = format!("{}:{}", what.workload.transport(), text(&what.archive));
            let to = format!("docker://{host}/{repository}:1");
            let mut command = vec!["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
            command.extend(more);
            command.extend([&archive[..], &to]);
            command.into_iter().map(str::to_owned).collect()
        };
        match self {
            Self::Skopeo => skopeo(&["--preserve-digests"]),
            Self::SkopeoGzip => skopeo(&[]),
            Self::Floor | Self::Ours(_) | Self::Curl | Self::OciClient => {
                let input = match self {
                    Self::Ours(_) => &what.archive,
                    Self::Curl => &what.files,
                    _ => &what.plan,
                };
                let this = env::current_exe().unwrap();
                vec![text(&this), "as".into(), self.word().into(), text(input), host.into(), repository.into()]
            }
        }
    }

    /// Pushes, in the process that [`Contender::command`] started.
    pub(crate) fn push(self, input: &Path, host: &str, repository: &str) -> Result<(), Box<dyn std::error::Error>> {
        match self {
            Self::Floor => floor::push(input, host, repository)?,
            Self::Ours(runtime) => {
                let to = Destination::Reference(format!("{host}/{repository}:1").parse()?);
                runtime.run(Config::default(), Push::new(shared(input), to, PushOptions::default()))?;
            }
            Self::Curl => curl::push(&Plan::read(input), host, repository)?,
            Self::OciClient => oci_client(input, host, repository)?,
            Self::Skopeo | Self::SkopeoGzip => return Err("skopeo is a program of its own".into()),
        }
        Ok(())
    }
}

/// The same requests as the floor's, each a `curl`.
mod curl {
    use super::{Command, Plan, io};

    pub(super) fn push(plan: &Plan, host: &str, repository: &str) -> io::Result<()> {
        let base = format!("http://{host}/v2/{repository}");
        if head(&format!("{base}/manifests/{}", plan.digest))? && head(&format!("{base}/manifests/1"))? {
            return Ok(());
        }
        for blob in &plan.blobs {
            if head(&format!("{base}/blobs/{}", blob.digest))? {
                continue;
            }
            let started = curl(&["-f", "-X", "POST", "-D", "-", "-o", "/dev/null", &format!("{base}/blobs/uploads/")])?;
            let location = started.lines().find_map(|line| line.strip_prefix("Location: "));
            let location = location.ok_or_else(|| io::Error::other("no Location"))?.trim();
            let to = format!("{location}&digest={}", blob.digest);
            let kind = "Content-Type: application/octet-stream";
            curl(&["-f", "-H", kind, "-H", "Expect:", "-T", &blob.path.display().to_string(), &to])?;
        }
        let kind = format!("Content-Type: {}", plan.media_type);
        let to = format!("{base}/manifests/1");
        curl(&["-f", "-X", "PUT", "-H", &kind, "--data-binary", &plan.manifest, &to]).map(drop)
    }

    fn head(url: &str) -> io::Result<bool> {
        Ok(curl(&["-I", "-o", "/dev/null", "-w", "%{http_code}", url])? == "200")
    }

    fn curl(arguments: &[&str]) -> io::Result<String> {
        let ran = Command::new("curl").args(["-s", "-S"]).args(arguments).output()?;
        if !ran.status.success() {
            return Err(io::Error::other(format!("curl: {}", String::from_utf8_lossy(&ran.stderr))));
        }
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }
}

/// The crate has no archive reader, and takes layers in memory: it is told where they are.
#[cfg(feature = "peers")]
fn oci_client(plan: &Path, host: &str, repository: &str) -> Result<(), Box<dyn std::error::Error>> {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
    use oci_client::secrets::RegistryAuth;

    rustls::crypto::ring::default_provider().install_default().map_err(|_| "there is a TLS provider already")?;
    let plan = Plan::read(plan);
    let mut blobs = Vec::new();
    for blob in &plan.blobs {
        let mut bytes = vec![0; usize::try_from(blob.size)?];
        File::open(&blob.path)?.read_exact_at(&mut bytes, blob.offset)?;
        blobs.push((bytes, blob.media_type.clone()));
    }
    let (config, config_type) = blobs.remove(0);
    let config = Config::new(config, config_type, None);
    let layers: Vec<ImageLayer> = blobs.into_iter().map(|(layer, kind)| ImageLayer::new(layer, kind, None)).collect();
    let client = oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let to: oci_client::Reference = format!("{host}/{repository}:1").parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(client.push(&to, &layers, config, &RegistryAuth::Anonymous, None))?;
    Ok(())
}

#[cfg(not(feature = "peers"))]
fn oci_client(_: &Path, _: &str, _: &str) -> Result<(), Box<dyn std::error::Error>> {
    Err("built without `--features peers`".into())
}
