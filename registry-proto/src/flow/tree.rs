//! An image with everything below it: its manifests, fetched, and the blobs that they name.
//!
//! ```text
//!   New ─▶ Root ─┬─ an index, of which one platform is wanted ─▶ Root (that manifest)
//!                ├─ an image, where one for a platform is wanted ─▶ Checking its configuration ─▶ as below
//!                └─▶ Level(its manifests) ─▶ Level(theirs) … ─▶ the end
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::flow::choose::{check_platform, choose};
use crate::flow::{Context, FetchBlob, FetchManifest, Fleet, Flow, Step, ready};
use crate::job::Completion;
use crate::spec::{Descriptor, Digest, ImageConfig, Kind, Manifest, ManifestContent, Platform, Reference, Repository};

/// Fetches the manifest that a reference names and all manifests below it.
#[derive(Debug)]
pub(crate) struct FetchTree {
    reference: Reference,
    platform: Option<Platform>,
    /// What the reference leads to, if that was fetched before.
    given: Option<Manifest>,
    found: BTreeMap<Digest, Manifest>,
    /// Whether an image by itself has to be for the platform, too.
    strict: bool,
    /// The image was chosen out of an index, which says what it is for.
    is_chosen: bool,
    /// What the reference leads to: the root, or the index that it was chosen out of.
    entry: Option<Digest>,
    root: Option<Digest>,
    /// What the index says of the image that was chosen out of it.
    chosen: Option<Platform>,
    /// Manifests that are still to be fetched, by the size that was told.
    bytes: u64,
    /// With how many others what may be in memory is shared.
    sharers: u64,
    depth: usize,
    state: State,
}

/// An image with everything below it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Manifest,
    /// What the reference leads to: the root, or the index that it was chosen out of.
    pub(crate) entry: Digest,
    /// What the index says of it that it was chosen out of.
    pub(crate) platform: Option<Platform>,
    /// Children before parents; the root is the last.
    pub(crate) manifests: Vec<Manifest>,
    /// Every blob once, as the first manifest describes it. Without those that registries don't hold.
    pub(crate) blobs: Vec<Descriptor>,
}

#[derive(Debug)]
enum State {
    New,
    Root(Box<FetchManifest>),
    Checking(Box<FetchBlob>, Platform, Box<Manifest>),
    Level(Fleet<FetchManifest>),
    Cancelled,
}

impl FetchTree {
    pub(crate) fn new(reference: Reference, platform: Option<Platform>) -> Self {
        Self {
            reference,
            platform,
            given: None,
            found: BTreeMap::new(),
            strict: true,
            is_chosen: false,
            entry: None,
            root: None,
            chosen: None,
            bytes: 0,
            sharers: 1,
            depth: 0,
            state: State::New,
        }
    }

    /// Below what the reference leads to, which was fetched before.
    pub(crate) fn below(mut self, root: Manifest) -> Self {
        self.given = Some(root);
        self
    }

    /// One of so many at a time: each with its share of what may be in memory.
    pub(crate) const fn one_of(mut self, count: u64) -> Self {
        self.sharers = if count == 0 { 1 } else { count };
        self
    }

    /// An image that is for one platform only will do, whatever platform that is.
    #[must_use]
    pub(crate) const fn or_the_only_one(mut self) -> Self {
        self.strict = false;
        self
    }

    fn repository(&self) -> &Repository {
        self.reference.repository()
    }

    // ── transitions ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn after_root(&mut self, cx: &Context<'_>, root: Manifest) -> Result<Option<State>, Error> {
        self.deeper(cx)?;
        self.entry.get_or_insert_with(|| root.digest().clone());
        if let (Some(platform), Some(index)) = (&self.platform, root.index()) {
            let child = choose(index, platform, &self.reference)?.clone();
            self.is_chosen = true;
            self.chosen.clone_from(&child.platform);
            return Ok(Some(State::Root(Box::new(FetchManifest::described(self.repository().clone(), child)))));
        }
        if let (Some(platform), Some(image), false) = (&self.platform, root.image(), self.is_chosen)
            && self.strict
            && image.config.media_type.is_image_config()
        {
            let (fetch, platform) =
                (Box::new(FetchBlob::new(self.repository().clone(), image.config.clone())), platform.clone());
            return Ok(Some(State::Checking(fetch, platform, Box::new(root))));
        }
        self.after_check(cx, root)
    }

    /// An image that is for one platform only says so in its configuration.
    fn after_config(
        &mut self,
        cx: &Context<'_>,
        config: &[u8],
        wanted: &Platform,
        root: Manifest,
    ) -> Result<Option<State>, Error> {
        if let Ok(config) = ImageConfig::parse(config) {
            check_platform(&config.platform(), wanted, &self.reference)?;
        }
        self.after_check(cx, root)
    }

    fn after_check(&mut self, cx: &Context<'_>, root: Manifest) -> Result<Option<State>, Error> {
        self.root = Some(root.digest().clone());
        self.after_level(cx, vec![root])
    }

    /// `None`: that was the last level.
    fn after_level(&mut self, cx: &Context<'_>, level: Vec<Manifest>) -> Result<Option<State>, Error> {
        self.deeper(cx)?;
        let mut next: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        for manifest in level {
            match manifest.content() {
                ManifestContent::Image(_) => {}
                ManifestContent::Index(index) => {
                    let below = index.manifests.iter().filter(|child| is_manifest(child));
                    let new = below.filter(|child| !self.found.contains_key(&child.digest));
                    next.extend(new.map(|child| (child.digest.clone(), child.clone())));
                }
                ManifestContent::Schema1 => return Err(self.unsupported(&manifest, "Docker's schema 1 is too old")),
                ManifestContent::Unknown => return Err(self.unsupported(&manifest, "its type is not known here")),
            }
            self.found.insert(manifest.digest().clone(), manifest);
        }
        // (What was just found may be named by a neighbour as well.)
        next.retain(|digest, _| !self.found.contains_key(digest));
        self.bytes = next.values().fold(self.bytes, |sum, child| sum.saturating_add(child.size));
        let limits = &cx.session.config().limits;
        let (most, most_bytes) = (limits.manifests, limits.below_index / self.sharers);
        if self.found.len() + next.len() > most || self.bytes > most_bytes {
            let what = format!("more than {most} manifests or {most_bytes} bytes of them");
            return Err(Error::Unsuitable(format!(
                "{}: the image has {what}, which is more than is taken",
                self.reference
            )));
        }
        if next.is_empty() {
            return Ok(None);
        }
        let repository = self.repository();
        let fetches = next.into_values().map(|child| FetchManifest::described(repository.clone(), child));
        Ok(Some(State::Level(Fleet::new(fetches, cx.session.config().transfers))))
    }

    fn deeper(&mut self, cx: &Context<'_>) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > cx.session.config().limits.index_depth {
            return Err(Error::Unsuitable(format!("{}: its indexes are nested too deep", self.reference)));
        }
        Ok(())
    }

    // ── what the transitions are made of ─────────────────────────────────────────────────────────────────────────────

    fn unsupported(&self, manifest: &Manifest, why: &str) -> Error {
        let (digest, kind) = (manifest.digest(), manifest.media_type());
        Error::Unsuitable(format!("{}: which blobs belong to {digest} can't be told: {why} ({kind})", self.reference))
    }

    fn tree(&mut self) -> Tree {
        let root = self.root.as_ref().and_then(|root| self.found.get(root)).cloned();
        let root = root.expect("the first level is the root");
        let (mut seen, mut manifests) = (BTreeSet::new(), Vec::new());
        children_first(&self.found, &root, &mut seen, &mut manifests);
        let mut seen = BTreeSet::new();
        let named = manifests.iter().flat_map(blobs);
        let blobs = named.filter(|blob| seen.insert(blob.digest.clone())).cloned().collect();
        let entry = self.entry.clone().unwrap_or_else(|| root.digest().clone());
        Tree { root, entry, platform: self.chosen.take(), manifests, blobs }
    }
}

/// Indexes may list things that are no manifests (a build cache does): what has no manifest's type is a blob.
fn is_manifest(child: &Descriptor) -> bool {
    matches!(child.media_type.kind(), Kind::Manifest | Kind::Index | Kind::Schema1)
}

/// The blobs that a manifest names itself. Not a foreign layer, which is elsewhere.
fn blobs(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let image = manifest.image().into_iter().flat_map(|image| image.blobs());
    let index = manifest.index().into_iter().flat_map(|index| &index.manifests);
    let index = index.filter(|child| !is_manifest(child));
    image.chain(index).filter(|blob| !blob.media_type.is_foreign_layer() || blob.urls.is_empty())
}

/// As deep as indexes are nested, which is not much.
fn children_first(
    found: &BTreeMap<Digest, Manifest>,
    manifest: &Manifest,
    seen: &mut BTreeSet<Digest>,
    order: &mut Vec<Manifest>,
) {
    if !seen.insert(manifest.digest().clone()) {
        return;
    }
    let children = manifest.index().into_iter().flat_map(|index| &index.manifests);
    for child in children.filter_map(|child| found.get(&child.digest)) {
        children_first(found, child, seen, order);
    }
    order.push(manifest.clone());
}

impl Flow for FetchTree {
    type Output = Tree;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Tree> {
        loop {
            let next = match &mut self.state {
                State::New => match self.given.take() {
                    Some(root) => self.after_root(cx, root),
                    None => Ok(Some(State::Root(Box::new(FetchManifest::new(&self.reference))))),
                },
                State::Root(fetch) => {
                    let root = ready!(fetch.poll(cx));
                    root.and_then(|root| self.after_root(cx, root))
                }
                State::Checking(fetch, platform, root) => {
                    let config = ready!(fetch.poll(cx));
                    let (platform, root) = (platform.clone(), (**root).clone());
                    config.and_then(|config| self.after_config(cx, &config, &platform, root))
                }
                State::Level(fleet) => {
                    let level = ready!(fleet.poll(cx));
                    level.and_then(|level| self.after_level(cx, level))
                }
                State::Cancelled => return Step::Done(Err(Error::Cancelled)),
            };
            match next {
                Ok(Some(state)) => self.state = state,
                Ok(None) => return Step::Done(Ok(self.tree())),
                Err(why) => return Step::Done(Err(why)),
            }
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match &mut self.state {
            State::Root(fetch) => fetch.handle(cx, done),
            State::Checking(fetch, ..) => fetch.handle(cx, done),
            State::Level(fleet) => fleet.handle(cx, done),
            State::New | State::Cancelled => Err(done),
        }
    }

    fn cancel(&mut self) {
        match &mut self.state {
            State::Root(fetch) => fetch.cancel(),
            State::Checking(fetch, ..) => fetch.cancel(),
            State::Level(fleet) => fleet.cancel(),
            State::New => self.state = State::Cancelled,
            State::Cancelled => {}
        }
    }
}
