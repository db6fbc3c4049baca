//! Copies made up from a seed: an image in one registry, another registry (or the same), a configuration, and misfortune.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{Copied, Copy, CopyOptions};
use registry_proto::spec::{Descriptor, Digest, ImageManifest, Index, Manifest, MediaType, Reference};
use registry_proto::testing::registry::{Auth, Mount, Profile, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session, UploadPolicy};

use crate::scenario::{Dice, check_holdings, check_progress, check_width};

/// The source's host; a destination at another has a registry of its own.
pub const HERE: &str = "localhost:5000";
/// Another host.
pub const THERE: &str = "localhost:6000";

/// Everything about one simulated copy.
#[derive(Debug)]
pub struct CopyScenario {
    /// What it was made from.
    pub seed: u64,
    /// The registry that has the image, and the other one.
    pub registries: [Registry; 2],
    /// The image's digest.
    pub root: Digest,
    /// Where the image is.
    pub source: Reference,
    /// Where it goes.
    pub destination: Reference,
    /// How the client behaves.
    pub config: Config,
    /// What goes wrong.
    pub faults: Faults,
}

impl CopyScenario {
    /// The scenario of a seed. Every tenth has no misfortune at all: it has to succeed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut config = Config::default();
        config.transfers = NonZeroUsize::new(1 + dice.below(6) as usize).unwrap();
        config.retries = 12;
        config.limits.chunk_min = 16;
        config.piece = NonZeroU64::new(128 + dice.below(4000)).unwrap();
        if dice.below(4) == 0 {
            config.upload = UploadPolicy::Chunked(NonZeroU64::new(64 + dice.below(2000)).unwrap());
        }
        let mut registries = [HERE, THERE].map(|host| {
            let mut profile = match dice.below(3) {
                0 => Profile::distribution_2_8(),
                1 => Profile::distribution_3(),
                _ => Profile::strict(),
            };
            if dice.below(3) == 0 {
                profile.requires_auth = Some(Auth::bearer_for("/token", host, "user", "secret"));
                config.log_in(&host.parse().unwrap(), Credential::password("user", "secret"));
            }
            profile
        });
        let [here, there] = &mut registries;
        here.range_max = (dice.below(4) == 0).then(|| 50 + dice.below(500));
        here.redirect_blobs = (dice.below(4) == 0).then(|| "http://localhost:5002/storage".to_owned());
        here.signs_for_get = dice.below(2) == 0;
        here.mount = match dice.below(4) {
            0 => Mount::Ignored,
            1 => Mount::Refused(http::StatusCode::FORBIDDEN),
            _ => Mount::Works,
        };
        if dice.below(4) == 0 {
            there.max_body = Some(2500 + dice.below(2500));
        }
        if dice.below(4) == 0 {
            there.chunk_min = Some(1 + dice.below(300));
        }
        let mut registries = registries.map(Registry::new);
        let (root, tag) = (image(&mut dice, &mut registries[0], "v1"), "v1");
        let source: Reference = match dice.below(3) {
            0 => format!("{HERE}/from/here@{root}"),
            _ => format!("{HERE}/from/here:{tag}"),
        }
        .parse()
        .unwrap();
        let destination = match dice.below(6) {
            0 => format!("{HERE}/to/there:v2"),
            1 => format!("{HERE}/from/here:v2"),
            2 => format!("{THERE}/to/there@{root}"),
            _ => format!("{THERE}/to/there:v2"),
        };
        let mut faults = Faults::default();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(300);
            faults.lost_sessions = dice.below(20);
            faults.revoked_tokens = dice.below(30);
        }
        Self { seed, registries, root, source, destination: destination.parse().unwrap(), config, faults }
    }

    /// A world to run it in.
    pub fn world(&self) -> Simulation {
        let [here, there] = self.registries.clone();
        Simulation::new(self.seed, here, MemoryDisk::default()).with_registry(THERE, there).with_faults(self.faults)
    }

    /// A session for it.
    pub fn session(&self) -> Session {
        Session::new(self.config.clone(), self.seed)
    }

    /// The copy.
    pub fn copy(&self) -> Copy {
        Copy::new(self.source.clone(), self.destination.clone(), CopyOptions::default())
    }

    /// Checks what has to hold at the end of a copy, however it ended.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn check(&self, world: &mut Simulation, ran: &Ran<Copied>) {
        match &ran.result {
            Ok(copied) => {
                assert_eq!(copied.digest, self.root);
                let name = self.destination.repository().name().as_str();
                let registry = world.registry_of(self.destination.repository().registry().as_str());
                let (bytes, _) = registry.manifest(name, &self.destination.target().to_string()).expect("it is there");
                assert_eq!(Digest::of(&bytes), self.root, "the tag leads to the image");
            }
            Err(why) => {
                assert!(self.faults != Faults::default(), "nothing went wrong, but: {why}");
                assert!(
                    matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)),
                    "an error that nothing here can cause: {why}"
                );
            }
        }
        for host in [HERE, THERE] {
            check_holdings(world.registry_of(host));
        }
        check_progress(&ran.events);
        // For each blob one request that sends and one that fetches.
        check_width(ran, &self.config, 2);
        assert!(ran.took.as_secs() < 8 * 3600, "it took {:?}", ran.took);
    }
}

/// Puts an image, or an index, into a registry's `from/here` under a tag.
pub(crate) fn image(dice: &mut Dice, registry: &mut Registry, tag: &str) -> Digest {
    let shared = dice.bytes(700);
    let put = |registry: &mut Registry, manifest: &Manifest, tag| {
        registry.insert_manifest("from/here", tag, manifest.bytes().clone(), manifest.media_type().as_str()).unwrap();
        manifest.descriptor()
    };
    let one = |dice: &mut Dice, registry: &mut Registry| {
        let blob = |registry: &mut Registry, bytes: Bytes, kind| {
            let size = bytes.len() as u64;
            Descriptor::new(kind, registry.insert_blob("from/here", bytes), size)
        };
        let config = dice.bytes(100);
        let config = blob(registry, config, MediaType::OCI_CONFIG);
        let mut layers: Vec<Descriptor> = (0..dice.below(4))
            .map(|_| {
                let length = dice.below(7000);
                let bytes = dice.bytes(length);
                blob(registry, bytes, MediaType::OCI_LAYER_GZIP)
            })
            .collect();
        layers.push(blob(registry, shared.clone(), MediaType::OCI_LAYER));
        if dice.below(4) == 0 {
            let mut foreign = Descriptor::new(MediaType::DOCKER_FOREIGN_LAYER_GZIP, Digest::of(b"elsewhere"), 9);
            foreign.urls.push("https://example.com/layer".to_owned());
            layers.push(foreign);
        }
        let annotations = BTreeMap::new();
        ImageManifest { media_type: None, artifact_type: None, config, layers, subject: None, annotations }
            .to_manifest()
    };
    let index = |manifests| {
        Index { media_type: None, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() }
            .to_manifest()
    };
    let root = match dice.below(3) {
        0 => one(dice, registry),
        _ => {
            let mut children = Vec::new();
            for _ in 0..1 + dice.below(4) {
                let child = one(dice, registry);
                children.push(put(registry, &child, None));
            }
            if dice.below(3) == 0 {
                // An index within the index, of which a child is named above as well.
                let nested = index(children[..1].to_vec());
                let at = dice.below(children.len() as u64 + 1) as usize;
                children.insert(at, put(registry, &nested, None));
            }
            index(children)
        }
    };
    put(registry, &root, Some(tag)).digest
}
