//! Under which digest a registry keeps what a reference leads to.

use http::StatusCode;

use crate::endpoint::{Reply, manifest};
use crate::error::Error;
use crate::flow::{Answer, Context, Exchange, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Digest, Kind, ManifestContent, Origin, Repository, TagOrDigest};

/// Finds the digest under which a registry keeps a manifest, and what the manifest names: one `GET`.
///
/// [`Resolve`](super::Resolve) asks by `HEAD` and takes the registry's word, which is enough for who fetches by that digest
/// afterwards, since wrong bytes are then found out. Who deletes by it finds out nothing: only bytes prove a digest. And a
/// manifest that is damaged, or of a form that nobody knows, is no error here: it is there, and can be deleted.
#[derive(Debug)]
pub(crate) struct Identify {
    repository: Repository,
    origin: Origin,
    reference: TagOrDigest,
    asking: Option<Exchange>,
    cancelled: bool,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Identified {
    /// As this.
    As(Found),
    /// It leads to nothing; the registry's words.
    Missing(Error),
}

/// A manifest that a registry has.
#[derive(Debug)]
pub(crate) struct Found {
    /// Under which digest.
    pub(crate) digest: Digest,
    /// Whether the bytes have that digest. Of Docker's schema 1 only a part is hashed, and of damaged ones nothing fits.
    pub(crate) proven: bool,
    /// Manifests that it names, if it is an index.
    pub(crate) children: Vec<Digest>,
    /// What it says something about.
    pub(crate) subject: Option<Digest>,
}

impl Identify {
    pub(crate) const fn new(repository: Repository, origin: Origin, reference: TagOrDigest) -> Self {
        Self { repository, origin, reference, asking: None, cancelled: false }
    }

    fn identified(&self, reply: &Reply) -> Result<Identified, Error> {
        let manifest = match (manifest::read(reply, &self.reference, None), &self.reference) {
            (Ok(manifest), _) => manifest,
            (Err(why), _) if reply.status == StatusCode::NOT_FOUND => return Ok(Identified::Missing(why)),
            // Damaged, or of no known form; but there, and it was named by its digest.
            (Err(Error::Protocol { .. } | Error::Integrity { .. }), TagOrDigest::Digest(digest)) => {
                let (digest, children) = (digest.clone(), Vec::new());
                return Ok(Identified::As(Found { digest, proven: false, children, subject: None }));
            }
            (Err(why), _) => return Err(why),
        };
        let (digest, proven) = match (&self.reference, reply.claimed_digest()) {
            (TagOrDigest::Digest(digest), _) => (digest.clone(), true),
            // The registry may keep it under another algorithm's digest than ours.
            (TagOrDigest::Tag(_), Some(claimed)) if claimed.algorithm().is_some() => {
                let proven =
                    claimed.algorithm().is_some_and(|known| Digest::compute(known, manifest.bytes()) == claimed);
                (claimed, proven)
            }
            (TagOrDigest::Tag(_), _) => {
                (manifest.digest().clone(), !matches!(manifest.content(), ManifestContent::Schema1))
            }
        };
        let children = manifest.index().map(|index| &index.manifests[..]).unwrap_or_default();
        // Caches of builds are indexes of layers: no manifests, so not to be found as such.
        let children = children
            .iter()
            .filter(|child| matches!(child.media_type.kind(), Kind::Manifest | Kind::Index | Kind::Schema1))
            .map(|child| child.digest.clone())
            .collect();
        let subject = manifest.subject().map(|subject| subject.digest.clone());
        Ok(Identified::As(Found { digest, proven, children, subject }))
    }
}

impl Flow for Identify {
    type Output = Identified;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Identified> {
        if self.cancelled && self.asking.is_none() {
            return Step::Done(Err(Error::Cancelled));
        }
        let exchange = self.asking.get_or_insert_with(|| {
            let limits = cx.session.config().limits;
            let ask = manifest::get(&self.origin, self.repository.name(), &self.reference, &limits);
            Exchange::new(ask, self.repository.registry())
        });
        let answer = ready!(exchange.poll(cx));
        Step::Done(match answer.and_then(Answer::into_reply) {
            Ok(reply) => self.identified(&reply),
            Err(why) => Err(why),
        })
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.asking {
            Some(exchange) => exchange.handle(cx, done),
            None => Err(done),
        }
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        if let Some(exchange) = &mut self.asking {
            exchange.cancel();
        }
    }
}
