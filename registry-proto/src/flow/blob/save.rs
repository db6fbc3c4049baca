//! A blob into a file.

use std::path::Path;
use std::sync::Arc;

use super::size::Size;
use crate::flow::{Context, File, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, Repository};

/// Fetches a blob into a file: `HEAD`, then `GET /v2/<name>/blobs/<digest>` (end-2). Until it is whole and verified it is
/// `OUT.partial`, from which the same flow goes on if it was interrupted. A file that is there and right is kept.
///
/// Yields the blob's [`Descriptor`], of which nobody knows the type.
///
/// ```
/// # use registry_proto::archive::make::MemoryDisk;
/// # use registry_proto::testing::registry::{Profile, Registry};
/// # use registry_proto::testing::simulation::Simulation;
/// # use registry_proto::{Config, Session};
/// use registry_proto::flow::SaveBlob;
/// use registry_proto::spec::Reference;
/// # use std::path::Path;
///
/// # let mut registry = Registry::new(Profile::distribution_3());
/// # let mut world = Simulation::new(1, registry, MemoryDisk::default());
/// # let mut session = Session::new(Config::default(), 1);
/// # let digest = world.registry().insert_blob("app", bytes::Bytes::from_static(b"some bytes"));
/// let repository = "localhost:5000/app".parse::<Reference>()?.repository().clone();
/// let ran = world.run(&mut session, SaveBlob::new(repository, digest, "out.bin"));
/// assert_eq!(ran.result?.size, 10);
/// assert_eq!(world.files().snapshot().0[Path::new("out.bin")], "some bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Registry`](crate::Error::Registry) when it is not there, [`Error::Integrity`](crate::Error::Integrity) when it is
/// not what its digest says, [`Error::Local`](crate::Error::Local) when it can't be written.
#[derive(Debug)]
pub struct SaveBlob {
    repository: Repository,
    out: Arc<Path>,
    state: State,
}

#[derive(Debug)]
enum State {
    Sizing(Size),
    Fetching(Box<File>, Descriptor),
}

impl SaveBlob {
    /// The blob with this digest, into this file.
    pub fn new(repository: Repository, digest: Digest, out: impl AsRef<Path>) -> Self {
        let state = State::Sizing(Size::new(repository.clone(), digest));
        Self { repository, out: out.as_ref().into(), state }
    }
}

impl Flow for SaveBlob {
    type Output = Descriptor;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Descriptor> {
        loop {
            match &mut self.state {
                State::Sizing(size) => match ready!(size.poll(cx)) {
                    Ok(blob) => {
                        let file = File::blob(Arc::clone(&self.out), self.repository.clone(), blob.clone());
                        self.state = State::Fetching(Box::new(file), blob);
                    }
                    Err(why) => return Step::Done(Err(why)),
                },
                State::Fetching(file, blob) => {
                    let fetched = ready!(file.poll(cx));
                    return Step::Done(fetched.map(|_| blob.clone()));
                }
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Sizing(size) => size.handle(cx, done),
            State::Fetching(file, _) => file.handle(cx, done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Sizing(size) => size.cancel(),
            State::Fetching(file, _) => file.cancel(),
        }
    }
}
