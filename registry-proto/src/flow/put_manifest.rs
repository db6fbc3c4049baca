//! Putting one manifest.
//!
//! ```text
//!   New ─┬─ the reference has another digest ─▶ done (Err)
//!        └─▶ Putting ─▶ Listing, on its subject's list if it has one that clients keep ─▶ done
//! ```

use std::num::NonZeroUsize;

use crate::error::Error;
use crate::flow::referrers::Relist;
use crate::flow::{Context, Fleet, Flow, PutOutcome, Putting, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, Manifest, Reference, TagOrDigest};

/// Puts a manifest or an index, its bytes as they are: `PUT /v2/<name>/manifests/<reference>` (end-7).
///
/// What it names has to be there already: an image's blobs, an index's manifests. A tag that was there before leads to this
/// manifest from then on. To put what a registry has under another tag, see [`Retag`](super::Retag).
///
/// Where clients keep the list of what refers to a manifest, one that refers to another is put on its list.
///
/// Tells of it as [`Event::ManifestPut`](crate::Event::ManifestPut), and yields the manifest's descriptor.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::PutManifest;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let image = SampleImage::new(&[], &[b"a layer"]);
/// # world.registry().insert_blob("app", image.config());
/// # world.registry().insert_blob("app", image.layers[0].clone());
/// let flow = PutManifest::new("localhost:5000/app:v1".parse()?, image.manifest(false));
/// assert_eq!(world.run(&mut session, flow).result?, image.manifest(false).descriptor());
/// assert_eq!(world.registry().tags("app"), ["v1"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`]: the registry misses something that the manifest names, or does not take it (its type, its size, a
/// tag that must not change). [`Error::Misuse`]: the reference has a digest that is not the manifest's.
#[derive(Debug)]
pub struct PutManifest {
    reference: Reference,
    manifest: Manifest,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Putting(Box<Putting>),
    /// On its subject's list.
    Listing(Fleet<Relist>),
    Cancelled,
}

impl PutManifest {
    /// Under the reference's tag if it has one, else under its digest, else as `latest`. For bytes that are no [`Manifest`] yet
    /// there is [`Manifest::parse`].
    pub const fn new(reference: Reference, manifest: Manifest) -> Self {
        Self { reference, manifest, state: State::New }
    }

    fn put(&self, cx: &Context<'_>) -> Result<Putting, Error> {
        if let Some(digest) = self.reference.digest() {
            let found = digest.algorithm().map(|algorithm| Digest::compute(algorithm, self.manifest.bytes()));
            if found.as_ref() != Some(digest) {
                let found = found.as_ref().unwrap_or_else(|| self.manifest.digest());
                let why = format!("`{}`: the manifest to be put there is {found}", self.reference);
                return Err(Error::Misuse(why));
            }
        }
        let repository = self.reference.repository();
        let origin = cx.origin(repository.registry())?;
        let under = self.reference.tag().map_or_else(|| self.reference.target(), |tag| TagOrDigest::Tag(tag.clone()));
        Ok(Putting::new(repository.clone(), origin, under, self.manifest.clone()))
    }
}

impl Flow for PutManifest {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        loop {
            match &mut self.state {
                State::New => match self.put(cx) {
                    Ok(put) => self.state = State::Putting(Box::new(put)),
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Putting(put) => match ready!(put.poll(cx)) {
                    Ok(PutOutcome::Put(unlisted)) => {
                        let lists = Relist::all(unlisted.map(|unlisted| *unlisted).into_iter().collect());
                        self.state = State::Listing(Fleet::new(lists, NonZeroUsize::MIN));
                    }
                    Ok(PutOutcome::BlobUnknown(why)) | Err(why) => return Step::Done(Err(why)),
                },
                State::Listing(lists) => {
                    return Step::Done(ready!(lists.poll(cx)).map(|_| self.manifest.descriptor()));
                }
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Putting(put) => put.handle(cx, done),
            State::Listing(lists) => lists.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Putting(put) => put.cancel(),
            State::Listing(lists) => lists.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
