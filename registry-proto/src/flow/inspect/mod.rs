//! Looking at images without pulling them.
//!
//! ```text
//!   new ─▶ Root ─┬─ an index ─▶ Children ─┐
//!                ├─ an image ─────────────┴▶ Configs ─▶ done
//!                └─ anything else ───────────────────▶ done
//! ```

mod inspected;
mod many;

pub use inspected::{Inspected, InspectedChild};
pub use many::InspectMany;

use bytes::Bytes;
use http::StatusCode;

use crate::error::Error;
use crate::flow::{Context, Each, FetchBlob, FetchManifest, Fleet, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, ImageConfig, Manifest, Reference};
use inspected::without_config;

/// How many entries of an index are looked at. The largest in public use have some dozens.
const MOST_CHILDREN: usize = 1000;

/// Looks at what a reference leads to, without pulling its layers: manifest and configuration, of an index those of every
/// image that it lists (indexes within an index are named, not entered). Everything is verified.
///
/// Asks `GET /v2/<name>/manifests/<reference>` (end-3) and `GET /v2/<name>/blobs/<digest>` (end-2), what an index lists side
/// by side. What a registry lacks of an index, which is common where only some platforms were copied, is a note and no
/// error.
///
/// Yields [`Inspected`].
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::Inspect;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let ran = world.run(&mut session, Inspect::new("localhost:5000/app:v1".parse()?));
/// let image = ran.result?;
/// assert_eq!(image.platform().map(|platform| platform.to_string()).as_deref(), Some("linux/amd64"));
/// assert_eq!(image.layers().len(), 1);
/// println!("{}, {} bytes", image.digest(), image.total_size());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`] when the reference leads to nothing, [`Error::Denied`], [`Error::Integrity`] and [`Error::Protocol`] when what came
/// is not what its digest or its manifest says.
#[derive(Debug)]
pub struct Inspect {
    reference: Reference,
    found: Option<Inspected>,
    /// What may still be fetched below an index, in bytes.
    budget: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Root(Box<FetchManifest>),
    Children(Fleet<Each<FetchManifest>>, Vec<usize>),
    Configs(Fleet<Each<FetchBlob>>, Vec<Place>),
    Settled(Box<Result<Inspected, Error>>),
    Over,
}

/// Whose configuration it is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Root,
    Child(usize),
}

impl Inspect {
    /// Of a reference: by its digest if it has one, else by its tag, else `latest`.
    pub const fn new(reference: Reference) -> Self {
        Self { reference, found: None, budget: 0, state: State::New }
    }

    fn after_root(&mut self, cx: &Context<'_>, fetched: Result<Manifest, Error>) -> State {
        let manifest = match fetched {
            Ok(manifest) => manifest,
            Err(why) => return settled(Err(why)),
        };
        let mut children: Vec<_> =
            manifest.index().map_or(&[][..], |index| &index.manifests).iter().map(child).collect();
        let mut notes = Vec::from_iter(without_config(&manifest));
        if children.len() > MOST_CHILDREN {
            notes.push(format!("it lists {} manifests; only the first {MOST_CHILDREN} were looked at", children.len()));
        }
        let (mut fetches, mut places) = (Vec::new(), Vec::new());
        for (at, child) in children.iter_mut().enumerate().take(MOST_CHILDREN) {
            if child.descriptor.is_attestation() {
                continue;
            }
            match self.worth_fetching(&child.descriptor) {
                Ok(()) => {
                    let fetch = FetchManifest::described(self.reference.repository().clone(), child.descriptor.clone());
                    fetches.push(Each::forgiving(fetch, is_missing));
                    places.push(at);
                }
                Err(why) => child.notes.push(why),
            }
        }
        self.found = Some(Inspected { reference: self.reference.clone(), manifest, config: None, children, notes });
        State::Children(Fleet::new(fetches, cx.session.config().requests_per_registry), places)
    }

    /// Whether an entry of an index is looked at; if not, why not.
    fn worth_fetching(&mut self, child: &Descriptor) -> Result<(), String> {
        if !child.media_type.is_manifest_or_index() {
            return Err(format!("its type, {}, is not known here", child.media_type));
        }
        if !child.digest.is_verifiable() {
            return Err("its digest can't be verified: the algorithm is not known here".to_owned());
        }
        self.afford(child.size)
    }

    fn afford(&mut self, size: u64) -> Result<(), String> {
        let left = self.budget.checked_sub(size);
        self.budget = left.ok_or("not looked at: the index leads to more than is taken (`Limits::below_index`)")?;
        Ok(())
    }

    fn after_children(&mut self, cx: &Context<'_>, fetched: Fetched<Manifest>, places: &[usize]) -> State {
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(why) => return settled(Err(why)),
        };
        let mut found = self.found.take().expect("it was made when the root came");
        for (at, manifest) in places.iter().zip(fetched) {
            let child = &mut found.children[*at];
            match manifest {
                Ok(manifest) => {
                    child.notes.extend(without_config(&manifest));
                    child.manifest = Some(manifest);
                }
                Err(_) => child.notes.push("the registry does not have it".to_owned()),
            }
        }
        let (mut fetches, mut places) = (Vec::new(), Vec::new());
        let repository = self.reference.repository();
        if let Some(config) = image_config(Some(&found.manifest)) {
            let fetch = FetchBlob::new(repository.clone(), config.clone());
            // An image without its configuration is broken, and that is what its user should hear.
            fetches.push(Each::forgiving(fetch, |_| false));
            places.push(Place::Root);
        }
        for (at, child) in found.children.iter_mut().enumerate() {
            let Some(config) = image_config(child.manifest.as_ref()).cloned() else { continue };
            match self.afford(config.size) {
                Ok(()) => {
                    let fetch = FetchBlob::new(self.reference.repository().clone(), config);
                    fetches.push(Each::forgiving(fetch, is_missing));
                    places.push(Place::Child(at));
                }
                Err(why) => child.notes.push(why),
            }
        }
        self.found = Some(found);
        State::Configs(Fleet::new(fetches, cx.session.config().requests_per_registry), places)
    }

    fn after_configs(&mut self, fetched: Fetched<Bytes>, places: &[Place]) -> Result<Inspected, Error> {
        let fetched = fetched?;
        let mut found = self.found.take().expect("it was made when the root came");
        for (place, bytes) in places.iter().zip(fetched) {
            let (config, notes) = match place {
                Place::Root => (&mut found.config, &mut found.notes),
                Place::Child(at) => {
                    let child = &mut found.children[*at];
                    (&mut child.config, &mut child.notes)
                }
            };
            match bytes.map(|bytes| ImageConfig::parse(&bytes)) {
                Ok(Ok(parsed)) => *config = Some(parsed),
                Ok(Err(why)) => notes.push(format!("its configuration can't be read: {why}")),
                Err(_) => notes.push("the registry does not have its configuration".to_owned()),
            }
        }
        Ok(found)
    }
}

/// What came of many fetches: a failure of one that stopped all, or a result of each.
type Fetched<T> = Result<Vec<Result<T, Error>>, Error>;

fn child(descriptor: &Descriptor) -> InspectedChild {
    InspectedChild { descriptor: descriptor.clone(), manifest: None, config: None, notes: Vec::new() }
}

fn image_config(manifest: Option<&Manifest>) -> Option<&Descriptor> {
    let config = &manifest?.image()?.config;
    config.media_type.is_image_config().then_some(config)
}

fn is_missing(why: &Error) -> bool {
    why.status() == Some(StatusCode::NOT_FOUND)
}

fn settled(result: Result<Inspected, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Inspect {
    type Output = Inspected;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Inspected> {
        loop {
            self.state = match &mut self.state {
                State::New => {
                    self.budget = cx.session.config().limits.below_index;
                    State::Root(Box::new(FetchManifest::new(&self.reference)))
                }
                State::Root(fetch) => {
                    let fetched = ready!(fetch.poll(cx));
                    self.after_root(cx, fetched)
                }
                State::Children(fleet, places) => {
                    let (fetched, places) = (ready!(fleet.poll(cx)), std::mem::take(places));
                    self.after_children(cx, fetched, &places)
                }
                State::Configs(fleet, places) => {
                    let (fetched, places) = (ready!(fleet.poll(cx)), std::mem::take(places));
                    settled(self.after_configs(fetched, &places))
                }
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
            State::Root(fetch) => fetch.handle(cx, done),
            State::Children(fleet, _) => fleet.handle(cx, done),
            State::Configs(fleet, _) => fleet.handle(cx, done),
            State::New | State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Root(fetch) => fetch.cancel(),
            State::Children(fleet, _) => fleet.cancel(),
            State::Configs(fleet, _) => fleet.cancel(),
            State::New => self.state = settled(Err(Error::Cancelled)),
            State::Settled(_) | State::Over => {}
        }
    }
}
