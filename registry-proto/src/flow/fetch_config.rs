//! Fetching an image's configuration.

use bytes::Bytes;

use crate::error::Error;
use crate::flow::choose::choose;
use crate::flow::{Context, FetchBlob, FetchManifest, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Manifest, ManifestContent, Platform, Reference};

/// How many indexes may lead to one another before the image comes.
const DEPTH: u32 = 4;

/// Fetches the configuration of the image that a reference leads to, through an index if need be.
///
/// ```text
///   new ─▶ Manifest ─┬─ an image ─▶ Config ─▶ done
///             ▲      └─ an index ─┐
///             └── the platform's ─┘
/// ```
///
/// Yields the bytes as they are, verified: `GET /v2/<name>/manifests/<reference>` (end-3), then
/// `GET /v2/<name>/blobs/<digest>` (end-2).
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::FetchConfig;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let flow = FetchConfig::new("localhost:5000/app:v1".parse()?, "linux/amd64".parse()?);
/// let json: serde_json::Value = serde_json::from_slice(&world.run(&mut session, flow).result?)?;
/// assert_eq!(json["config"]["Cmd"][0], "sh");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Unsuitable`] when an index has nothing for the platform, or a manifest no configuration; else those of
/// [`FetchManifest`] and [`FetchBlob`].
#[derive(Debug)]
pub struct FetchConfig {
    reference: Reference,
    platform: Platform,
    depth: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Manifest(FetchManifest),
    Config(FetchBlob),
    Settled(Box<Result<Bytes, Error>>),
    Over,
}

impl FetchConfig {
    /// Of the image that a reference names; of an index, of the image for this platform.
    pub const fn new(reference: Reference, platform: Platform) -> Self {
        Self { reference, platform, depth: 0, state: State::New }
    }

    fn after_manifest(&mut self, fetched: Result<Manifest, Error>) -> State {
        let manifest = match fetched {
            Ok(manifest) => manifest,
            Err(why) => return settled(Err(why)),
        };
        let repository = self.reference.repository().clone();
        match manifest.content() {
            ManifestContent::Image(image) => State::Config(FetchBlob::new(repository, image.config.clone())),
            ManifestContent::Index(_) if self.depth >= DEPTH => settled(Err(Error::Unsuitable(format!(
                "{}: more than {DEPTH} indexes lead to one another",
                self.reference
            )))),
            ManifestContent::Index(index) => match choose(index, &self.platform, &self.reference) {
                Ok(chosen) => {
                    self.depth += 1;
                    State::Manifest(FetchManifest::described(repository, chosen.clone()))
                }
                Err(why) => settled(Err(why)),
            },
            ManifestContent::Schema1 | ManifestContent::Unknown => settled(Err(Error::Unsuitable(format!(
                "{}: a manifest of type {} has no configuration that is known here",
                self.reference,
                manifest.media_type()
            )))),
        }
    }
}

fn settled(result: Result<Bytes, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for FetchConfig {
    type Output = Bytes;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Bytes> {
        loop {
            self.state = match &mut self.state {
                State::New => State::Manifest(FetchManifest::new(&self.reference)),
                State::Manifest(fetch) => {
                    let fetched = ready!(fetch.poll(cx));
                    self.after_manifest(fetched)
                }
                State::Config(fetch) => settled(ready!(fetch.poll(cx))),
                State::Settled(_) => match std::mem::replace(&mut self.state, State::Over) {
                    State::Settled(result) => return Step::Done(*result),
                    _ => unreachable!("the state was just matched"),
                },
                State::Over => panic!("polled after it was done"),
            };
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Manifest(fetch) => fetch.handle(cx, done),
            State::Config(fetch) => fetch.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Manifest(fetch) => fetch.cancel(),
            State::Config(fetch) => fetch.cancel(),
            State::New => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
