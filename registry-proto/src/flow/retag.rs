//! New tags for what is there.
//!
//! ```text
//!   Fetching ─▶ Putting the first tag ─▶ Putting the next … ─▶ Settled
//!       └──────────────┴───── an error ──────┴───────────────▶ Settled (Err)
//! ```

use std::collections::VecDeque;

use crate::error::Error;
use crate::flow::{Context, FetchManifest, Flow, PutOutcome, Putting, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Manifest, Reference, Repository, Tag, TagOrDigest};

/// Gives a manifest more tags without moving a blob: `GET` of the manifest (end-3), `PUT` of the same bytes under each tag
/// (end-7), one after the other. A tag that was there before leads to this manifest from then on.
///
/// Tells of each as [`Event::ManifestPut`](crate::Event::ManifestPut), and yields the manifest's descriptor.
///
/// ```
/// # use registry_proto::archive::make::{MemoryDisk, SampleImage};
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::Retag;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # registry.insert_image("app", Some("v1"), &SampleImage::new(&["app:v1"], &[b"a layer"]));
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// let flow = Retag::new(&"localhost:5000/app:v1".parse()?, ["v1.0".parse()?, "latest".parse()?]);
/// world.run(&mut session, flow).result?;
/// assert_eq!(world.registry().tags("app"), ["latest", "v1", "v1.0"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`FetchManifest`], and what the registry has against the tags: with an error in the middle, those before it are
/// there.
#[derive(Debug)]
pub struct Retag {
    repository: Repository,
    tags: VecDeque<Tag>,
    state: State,
}

#[derive(Debug)]
enum State {
    Fetching(FetchManifest),
    Putting(Box<Putting>, Manifest),
    Settled(Box<Result<Descriptor, Error>>),
    Over,
}

impl Retag {
    /// Gives what `reference` leads to these tags, in the same repository.
    pub fn new(reference: &Reference, tags: impl IntoIterator<Item = Tag>) -> Self {
        Self {
            repository: reference.repository().clone(),
            tags: tags.into_iter().collect(),
            state: State::Fetching(FetchManifest::new(reference).unmirrored()),
        }
    }

    fn next(&mut self, cx: &Context<'_>, manifest: Manifest) -> State {
        let Some(tag) = self.tags.pop_front() else { return settled(Ok(manifest.descriptor())) };
        match cx.origin(self.repository.registry()) {
            Ok(origin) => {
                let reference = TagOrDigest::Tag(tag);
                let put = Putting::new(self.repository.clone(), origin, reference, manifest.clone());
                State::Putting(Box::new(put), manifest)
            }
            Err(why) => settled(Err(why)),
        }
    }
}

fn settled(result: Result<Descriptor, Error>) -> State {
    State::Settled(Box::new(result))
}

impl Flow for Retag {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        loop {
            self.state = match &mut self.state {
                State::Fetching(fetch) => match ready!(fetch.poll(cx)) {
                    Ok(manifest) => self.next(cx, manifest),
                    Err(why) => settled(Err(why)),
                },
                State::Putting(put, manifest) => match ready!(put.poll(cx)) {
                    // (Whoever put it here has told its subject's list.)
                    Ok(PutOutcome::Put(_)) => {
                        let manifest = manifest.clone();
                        self.next(cx, manifest)
                    }
                    Ok(PutOutcome::BlobUnknown(why)) | Err(why) => settled(Err(why)),
                },
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
            State::Fetching(fetch) => fetch.handle(cx, done),
            State::Putting(put, _) => put.handle(cx, done),
            State::Settled(_) | State::Over => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.tags.clear();
        match &mut self.state {
            State::Fetching(fetch) => fetch.cancel(),
            State::Putting(put, _) => put.cancel(),
            State::Settled(_) | State::Over => {}
        }
    }
}
