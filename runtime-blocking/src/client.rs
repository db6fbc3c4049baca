//! What users call.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use registry_proto::archive::Archive;
use registry_proto::flow::{
    Authenticate, Authenticated, Copied, Copy, CopyOptions, DeleteManifest, DeleteRepository, Deleted, Destination,
    FetchConfig, FetchManifest, Flow, Inspect, InspectMany, Inspected, ListCatalog, ListReferrers, ListTags, Pinging,
    Preview, Previewed, Pull, PullOptions, Pulled, Push, PushOptions, Pushed, PutManifest, ReadArchive, Resolve,
    Resumable, Resume, Retag, SaveBlob, Untag, Verified, VerifyArchive,
};
use registry_proto::spec::{Descriptor, Digest, Manifest, Platform, Reference, Registry, Repository, Tag};
use registry_proto::{Config, Error, Event, Ping, Proxies, operation, trace};

use crate::connect::Agents;
use crate::drive::Driver;

/// A client for container registries. Cheap to clone; clones share connections, tokens and what is known to exist.
///
/// Operations block their caller until they are done; call them from several threads to run several at a time.
#[derive(Clone, Debug)]
pub struct Client {
    driver: Arc<Driver>,
    cancelled: Arc<AtomicBool>,
}

/// Sets a [`Client`] up.
///
/// ```
/// use registry_blocking::Client;
/// use registry_blocking::proto::{Config, Credential};
///
/// let mut config = Config::default();
/// config.log_in(&"registry.example.org".parse()?, Credential::password("user", "a password"));
/// let client = Client::builder().config(config).proxies_from_env().build()?;
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ClientBuilder {
    config: Config,
    roots: Vec<Vec<u8>>,
    seed: Option<u64>,
}

impl ClientBuilder {
    /// How the client behaves.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Trusts one more certificate authority, given in DER, beside those of [`Config::tls`] and of the operating system.
    #[must_use]
    pub fn root_certificate(mut self, der: Vec<u8>) -> Self {
        self.roots.push(der);
        self
    }

    /// Takes over the proxies that the environment names (`https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`:
    /// [`Proxies::from_env`]), instead of those of [`Config::proxies`]. Without this call, no client reads the environment.
    #[must_use]
    pub fn proxies_from_env(mut self) -> Self {
        self.config.proxies = Proxies::from_env(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()));
        self
    }

    /// Makes the jitter of retries repeatable, for tests.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Misuse`] when a certificate or key of [`Config::tls`] is none, or they don't belong together.
    pub fn build(mut self) -> Result<Client, Error> {
        self.config.tls.authorities.append(&mut self.roots);
        let agents = Agents::new(&self.config)?;
        let seed = self.seed.unwrap_or_else(random_seed);
        Ok(Client { driver: Driver::new(self.config, seed, agents), cancelled: Arc::default() })
    }
}

/// Jitter must differ between clients that start at the same moment; nothing else depends on it.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

impl Client {
    /// A client with the default [`Config`]: no credentials, no proxies, nothing from files or from the environment.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn new() -> Result<Self, Error> {
        ClientBuilder::default().build()
    }

    /// A client with other settings.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Asks a registry whether it is one, and how it wants to be authenticated.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let ping = client.ping(&"registry.example.org".parse()?)?;
    /// println!("{} answers", ping.origin);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When nothing answers there, or what answers is no registry.
    pub fn ping(&self, registry: &Registry) -> Result<Ping, Error> {
        self.run(Pinging::new(registry.clone()))
    }

    /// Shows a registry what is configured for it, to see whether it lets one in.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let authenticated = client.authenticate(&"registry.example.org".parse()?)?;
    /// println!("let in{}", if authenticated.challenged { "" } else { ", and not asked for anything" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Denied`] when it doesn't.
    pub fn authenticate(&self, registry: &Registry) -> Result<Authenticated, Error> {
        self.run(Authenticate::new(registry.clone()))
    }

    /// Pushes images of an archive: a `docker save` tar, an OCI archive or an OCI layout folder.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::flow::Destination;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let to = Destination::Reference("registry.example.org/team/app:v1".parse()?);
    /// let pushed = client.push("app.tar", to)?;
    /// println!("{} blobs sent, {} were there", pushed.totals.sent, pushed.totals.existed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Archive`] and [`Error::Misuse`] before anything is sent, any other on the way.
    pub fn push(&self, archive: impl AsRef<Path>, to: Destination) -> Result<Pushed, Error> {
        self.run(Push::new(archive.as_ref(), to, PushOptions::default()))
    }

    /// Finds out what [`push`](Client::push) would send, and sends nothing.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::flow::Destination;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let to = Destination::Below("registry.example.org/mirror".to_owned());
    /// let previewed = client.preview("images.tar", to)?;
    /// println!("{} bytes would be sent", previewed.bytes());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::push`].
    pub fn preview(&self, archive: impl AsRef<Path>, to: Destination) -> Result<Previewed, Error> {
        self.run(Preview::new(archive.as_ref(), to, PushOptions::default()))
    }

    /// Pulls an image into a tar that both `docker load` and OCI tools read; of an index, the image for this machine. The file is
    /// there only when it is whole and verified; an interrupted pull goes on where it stopped. [`PullOptions`] and
    /// [`run`](Client::run) can pull several images, other platforms, and into other formats.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let pulled = client.pull(&"registry.example.org/team/app:v1".parse()?, "app.tar")?;
    /// println!("{}: {} bytes fetched", pulled.images[0].digest, pulled.totals.fetched_bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Integrity`] when the registry hands out other bytes than it should, [`Error::Local`] when the file can't be
    /// written; any other on the way.
    pub fn pull(&self, reference: &Reference, out: impl AsRef<Path>) -> Result<Pulled, Error> {
        self.run(Pull::new([reference.clone()], out, PullOptions::default()))
    }

    /// Copies an image from one reference to another, in the same registry or another one, byte for byte and without a
    /// temporary file. Of an index, every image goes along; [`CopyOptions`] and [`run`](Client::run) can copy less.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let (from, to) = ("quay.io/org/app:v1".parse()?, "registry.example.org/team/app:v1".parse()?);
    /// let copied = client.copy(&from, &to)?;
    /// println!("{} is there as well", copied.digest);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Integrity`] when the source hands out other bytes than it should; any other on the way.
    pub fn copy(&self, source: &Reference, destination: &Reference) -> Result<Copied, Error> {
        self.run(Copy::new(source.clone(), destination.clone(), CopyOptions::default()))
    }

    /// Reads which images an archive holds.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let archive = client.read_archive("app.tar")?;
    /// for name in archive.images().iter().flat_map(|image| image.names()) {
    ///     println!("{}", name.as_written());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Archive`] when the file is no image archive or is damaged.
    pub fn read_archive(&self, archive: impl AsRef<Path>) -> Result<Archive, Error> {
        self.run(ReadArchive::new(archive.as_ref()))
    }

    /// Reads an archive whole, to see whether every blob has its digest.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let verified = client.verify_archive("app.tar")?;
    /// for (digest, why) in &verified.damaged {
    ///     println!("{digest}: {why}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the work itself breaks down; everything that is wrong with the archive is part of the result.
    pub fn verify_archive(&self, archive: impl AsRef<Path>) -> Result<Verified, Error> {
        self.run(VerifyArchive::new(archive.as_ref()))
    }

    /// Fetches a blob into a file, which is there only when it is whole and verified; what was interrupted goes on where it
    /// stopped. Run [`ReadBlob`](registry_proto::flow::ReadBlob) to get it piece by piece instead.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::spec::Reference;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let reference: Reference = "registry.example.org/team/appsha256:…".parse()?;
    /// if let Some(digest) = reference.digest() {
    ///     client.blob(reference.repository(), digest, "layer.tar.gz")?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registry`] when it is not there, [`Error::Integrity`] when it is not what its digest says, [`Error::Local`] when
    /// it can't be written.
    pub fn blob(&self, repository: &Repository, digest: &Digest, out: impl AsRef<Path>) -> Result<Descriptor, Error> {
        self.run(SaveBlob::new(repository.clone(), digest.clone(), out))
    }

    /// Fetches a manifest or an index, its bytes as they are: `GET /v2/<name>/manifests/<reference>`.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let manifest = client.manifest(&"registry.example.org/team/app:v1".parse()?)?;
    /// std::fs::write("manifest.json", manifest.bytes())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registry`] when it is not there, [`Error::Integrity`] and [`Error::Protocol`] when it is not what it is said to
    /// be.
    pub fn manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        self.run(FetchManifest::new(reference))
    }

    /// Puts a manifest or an index, its bytes as they are, under the reference's tag (or its digest, or `latest`):
    /// `PUT /v2/<name>/manifests/<reference>`. What it names has to be in the repository already.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::spec::Manifest;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let manifest = Manifest::parse(std::fs::read("manifest.json")?.into(), None, None)?;
    /// client.put_manifest(&"registry.example.org/team/app:v2".parse()?, manifest)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registry`] when the registry does not take it, [`Error::Misuse`] when the reference has another digest.
    pub fn put_manifest(&self, reference: &Reference, manifest: Manifest) -> Result<Descriptor, Error> {
        self.run(PutManifest::new(reference.clone(), manifest))
    }

    /// Finds out what a reference leads to, without fetching it where the registry allows that:
    /// `HEAD /v2/<name>/manifests/<reference>`. What a tag leads to is the registry's word.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let descriptor = client.resolve(&"registry.example.org/team/app:v1".parse()?)?;
    /// println!("{}", descriptor.digest);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor, Error> {
        self.run(Resolve::new(reference.clone()))
    }

    /// Looks at an image, or at every image of an index, without pulling layers: `GET` of manifests and configurations.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let image = client.inspect(&"registry.example.org/team/app:v1".parse()?)?;
    /// println!("{}, {} layers, {} bytes", image.digest(), image.layers().len(), image.total_size());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::manifest`]. What is no image is none: [`Inspected::notes`] says what can't be told of it.
    pub fn inspect(&self, reference: &Reference) -> Result<Inspected, Error> {
        self.run(Inspect::new(reference.clone()))
    }

    /// As [`inspect`](Client::inspect) for many references side by side. Yields a result for each, in their order: one that
    /// fails does not stop the others.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let references = vec!["registry.example.org/a".parse()?, "registry.example.org/b".parse()?];
    /// for result in client.inspect_all(references) {
    ///     match result {
    ///         Ok(image) => println!("{}", image.digest()),
    ///         Err(why) => eprintln!("{why}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn inspect_all(&self, references: Vec<Reference>) -> Vec<Result<Inspected, Error>> {
        let count = references.len();
        // Only as a whole is it stopped.
        self.run(InspectMany::new(references)).unwrap_or_else(|why| vec![Err(why); count])
    }

    /// Fetches an image's configuration, its bytes as they are; of an index, that of the image for this machine. For other
    /// platforms run a [`FetchConfig`].
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let json = client.config(&"registry.example.org/team/app:v1".parse()?)?;
    /// println!("{}", String::from_utf8_lossy(&json));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::manifest`], and [`Error::Unsuitable`] when there is none for this machine.
    pub fn config(&self, reference: &Reference) -> Result<Vec<u8>, Error> {
        let flow = FetchConfig::new(reference.clone(), Platform::of_this_machine());
        Ok(self.run(flow)?.to_vec())
    }

    /// Lists a repository's tags, all of them at once: `GET /v2/<name>/tags/list`.
    ///
    /// To get them page by page, in the memory of a page, run [`ListTags`] itself and listen:
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # use registry_blocking::proto::spec::Repository;
    /// # use registry_blocking::proto::Error;
    /// use registry_blocking::proto::Event;
    /// use registry_blocking::proto::flow::ListTags;
    ///
    /// # fn list(client: Client, repository: Repository) -> Result<(), Error> {
    /// let count = client
    ///     .run_with(ListTags::new(repository), |event| {
    ///         if let Event::Listed { names } = event {
    ///             names.iter().for_each(|name| println!("{name}"));
    ///         }
    ///     })?;
    /// println!("{count} tags");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the repository is not there, the list does not come to an end, or is longer than
    /// [`Limits::entries`](registry_proto::session::Limits::entries) allows.
    pub fn tags(&self, repository: &Repository) -> Result<Vec<String>, Error> {
        self.run(ListTags::new(repository.clone()).collected())
    }

    /// Lists a registry's repositories, all of them at once: `GET /v2/_catalog`. To get them page by page, run
    /// [`ListCatalog`] itself and listen, as shown at [`tags`](Client::tags).
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// for repository in client.catalog(&"registry.example.org".parse()?)? {
    ///     println!("{repository}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the registry has no such list, or not for everybody, as is often so; the others as those of
    /// [`tags`](Client::tags).
    pub fn catalog(&self, registry: &Registry) -> Result<Vec<String>, Error> {
        self.run(ListCatalog::new(registry.clone()).collected())
    }

    /// Deletes a manifest, by its digest or what a tag leads to, and with it every tag that leads there:
    /// `DELETE /v2/<name>/manifests/<digest>`. See [`untag`](Client::untag) for a tag alone.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let deleted = client.delete(&"registry.example.org/team/app:v1".parse()?)?;
    /// println!("{} is gone", deleted.to_reference());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registry`] when it is not there (404), or the registry deletes nothing (405).
    pub fn delete(&self, reference: &Reference) -> Result<Deleted, Error> {
        self.run(DeleteManifest::new(reference))
    }

    /// Deletes a tag and leaves the manifest: `DELETE /v2/<name>/manifests/<tag>`. Not every registry can.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::spec::Reference;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let app: Reference = "registry.example.org/team/app".parse()?;
    /// client.untag(app.repository(), &"old".parse()?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registry`] when the tag is not there (404), or the registry does not delete tags (400, 405).
    pub fn untag(&self, repository: &Repository, tag: &Tag) -> Result<Deleted, Error> {
        self.run(Untag::new(repository.clone(), tag.clone()))
    }

    /// Deletes every manifest of a repository that a tag leads to, or an index that a tag leads to, and with them all tags.
    /// Yields what was deleted, in that order.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::spec::Reference;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let app: Reference = "registry.example.org/team/app".parse()?;
    /// let deleted = client.delete_repository(app.repository())?;
    /// println!("{} manifests are gone", deleted.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registry`] when the repository is not there (404), or the registry deletes nothing (405). An error in the
    /// middle leaves the rest as it is.
    pub fn delete_repository(&self, repository: &Repository) -> Result<Vec<Deleted>, Error> {
        self.run(DeleteRepository::new(repository.clone()))
    }

    /// Gives what a reference leads to more tags in its repository, without moving a blob.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let app = "registry.example.org/team/app:v1".parse()?;
    /// client.tag(&app, ["stable".parse()?, "latest".parse()?])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it is not there, or the registry does not take a tag.
    pub fn tag(&self, reference: &Reference, tags: impl IntoIterator<Item = Tag>) -> Result<Descriptor, Error> {
        self.run(Retag::new(reference, tags))
    }

    /// Lists the manifests that say something about another, such as signatures. Run [`ListReferrers`] itself to get those
    /// of one type of artifact.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// for referrer in client.referrers(&"registry.example.org/team/app:v1".parse()?)? {
    ///     println!("{}", referrer.digest);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a tag leads to nothing, or the registry breaks the protocol.
    pub fn referrers(&self, subject: &Reference) -> Result<Vec<Descriptor>, Error> {
        self.run(ListReferrers::new(subject))
    }

    /// Runs a push or pull whose state is in a file while it runs, so that it can be gone on with after its process has ended:
    /// an upload in the middle of a blob, a pull with the digest that its tag led to. Doing the same again goes on; when it is
    /// done, the file is removed. [`Resumable`] says more, and [`Resume`] how to keep the state elsewhere.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # use registry_blocking::proto::Error;
    /// # use registry_blocking::proto::flow::{Destination, Pushed};
    /// use std::path::Path;
    /// use registry_blocking::proto::flow::{Push, PushOptions};
    ///
    /// # fn push(client: Client, to: Destination) -> Result<Pushed, Error> {
    /// let push = Push::new(Path::new("app.tar"), to, PushOptions::default());
    /// client.resume(push, "app.state")
    /// # }
    /// ```
    ///
    /// # Errors
    /// The flow's; [`Error::Snapshot`] when the file is of another operation, or damaged.
    pub fn resume<F: Resume>(&self, flow: F, state: impl AsRef<Path>) -> Result<F::Output, Error> {
        self.run(Resumable::new(flow, state))
    }

    /// Runs any flow: those above are nothing else. What happens on the way goes to `tracing`, within a span of its own.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::archive::ArchiveFormat;
    /// use registry_blocking::proto::flow::{Platforms, Pull, PullOptions};
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut options = PullOptions::default();
    /// options.format = ArchiveFormat::Oci;
    /// options.platforms = Platforms::All;
    /// let references = ["registry.example.org/a:v1".parse()?, "registry.example.org/b:v1".parse()?];
    /// let pulled = client.run(Pull::new(references, "both.tar", options))?;
    /// println!("{} images", pulled.images.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The flow's.
    pub fn run<F: Flow>(&self, flow: F) -> Result<F::Output, Error> {
        operation::<F>().in_scope(|| self.run_with(flow, |event| trace(&event)))
    }

    /// Runs any flow and tells what happens on the way.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// use registry_blocking::proto::Event;
    /// use registry_blocking::proto::flow::Resolve;
    ///
    /// # fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let resolve = Resolve::new("registry.example.org/team/app:v1".parse()?);
    /// let descriptor = client
    ///     .run_with(resolve, |event| {
    ///         if let Event::Retrying { request, why, after } = event {
    ///             eprintln!("{request}: {why}; again in {after:?}");
    ///         }
    ///     })?;
    /// println!("{}", descriptor.digest);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The flow's.
    pub fn run_with<F: Flow>(&self, flow: F, tell: impl FnMut(Event)) -> Result<F::Output, Error> {
        self.driver.drive(flow, &self.cancelled, tell)
    }

    /// A client that shares everything with this one, but is [cancelled](Client::cancel) by itself.
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # fn example(client: Client) {
    /// let pushing = client.branch();
    /// pushing.cancel(); // `client` goes on
    /// # }
    /// ```
    #[must_use]
    pub fn branch(&self) -> Self {
        Self { driver: Arc::clone(&self.driver), cancelled: Arc::default() }
    }

    /// Asks every operation of this client and its clones to wind down, from whichever thread: they close upload sessions at
    /// their registries as well as they can (those that can be [gone on with](Client::resume) stay), and end with
    /// [`Error::Cancelled`]. So does whatever is started with it later.
    /// It takes a moment: a connection that is being opened is waited for.
    ///
    /// To stop some operations only, give them a client of their own:
    ///
    /// ```
    /// # use registry_blocking::Client;
    /// # use registry_blocking::proto::Error;
    /// # use registry_blocking::proto::flow::{Destination, Pushed};
    /// # fn push(client: Client, to: Destination, until: std::sync::mpsc::Receiver<()>) -> Result<Pushed, Error> {
    /// let pushing = client.branch();
    /// let stopping = pushing.clone();
    /// std::thread::spawn(move || {
    ///     if until.recv().is_ok() {
    ///         stopping.cancel();
    ///     }
    /// });
    /// pushing.push("app.tar", to) // `Err(Error::Cancelled)` if somebody says so
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.driver.wake();
    }
}
