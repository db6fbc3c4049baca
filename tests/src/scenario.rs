//! Pushes made up from a seed: an archive, a registry, a configuration, a destination, and misfortune.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Destination, Push, PushOptions, Pushed};
use registry_proto::spec::{Digest, Manifest, ManifestContent};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::testing::simulation::{Asked, Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Event, Session, UploadPolicy};

/// Everything about one simulated push.
#[derive(Debug)]
pub struct Scenario {
    /// What it was made from.
    pub seed: u64,
    /// The images in the archive.
    pub images: Vec<SampleImage>,
    /// The archive.
    pub disk: BTreeMap<PathBuf, Bytes>,
    /// Where it is.
    pub path: PathBuf,
    /// How the registry behaves.
    pub profile: Profile,
    /// How the client behaves.
    pub config: Config,
    /// Where the images go.
    pub destination: Destination,
    /// What goes wrong.
    pub faults: Faults,
}

/// Numbers from a seed (xorshift); nothing here has to be good, only repeatable.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            dice.below(2);
        }
        dice
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }

    pub(crate) fn bytes(&mut self, length: u64) -> Bytes {
        (0..length).map(|_| self.below(256) as u8).collect::<Vec<_>>().into()
    }
}

impl Scenario {
    /// The scenario of a seed. Every tenth has no misfortune at all: it has to succeed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let images = images(&mut dice);
        let (disk, path) = archive(&mut dice, &images);
        let mut profile = match dice.below(3) {
            0 => Profile::distribution_2_8(),
            1 => Profile::distribution_3(),
            _ => Profile::strict(),
        };
        let mut config = Config::default();
        config.transfers = NonZeroUsize::new(1 + dice.below(6) as usize).unwrap();
        if dice.below(3) == 0 {
            config.requests_per_registry = NonZeroUsize::new(1 + dice.below(4) as usize).unwrap();
        }
        config.retries = 12;
        config.limits.chunk_min = 16;
        config.upload = match dice.below(4) {
            0 => UploadPolicy::Monolithic,
            1 => UploadPolicy::Chunked(NonZeroU64::new(1 + dice.below(700)).unwrap()),
            _ => UploadPolicy::Auto,
        };
        // Monolithic means whole bodies whatever happens; a registry that takes none is not a fault but a mismatch.
        if config.upload != UploadPolicy::Monolithic && dice.below(4) == 0 {
            // (Manifests have to pass as well: they can't be sent in pieces.)
            profile.max_body = Some(2500 + dice.below(2500));
        }
        if dice.below(4) == 0 {
            profile.redirect_blobs = Some("http://localhost:5002/storage".to_owned());
            profile.signs_for_get = dice.below(2) == 0;
        }
        if dice.below(3) == 0 {
            profile.requires_auth = Some(Auth::bearer_for("http://localhost:5001/token", "registry", "user", "secret"));
            config.log_in(&"localhost:5000".parse().unwrap(), Credential::password("user", "secret"));
        }
        let destination = match dice.below(3) {
            0 if images.len() == 1 => Destination::Reference("localhost:5000/given/name:tag".parse().unwrap()),
            1 => Destination::OriginalTags,
            _ => Destination::Below("localhost:5000/below".to_owned()),
        };
        let mut faults = Faults::default();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(400);
            faults.lost_sessions = dice.below(30);
            faults.revoked_tokens = dice.below(30);
            faults.lost_digesters = dice.below(500);
        }
        Self { seed, images, disk, path, profile, config, destination, faults }
    }

    /// A world to run it in.
    pub fn world(&self) -> Simulation {
        let registry = Registry::new(self.profile.clone());
        Simulation::new(self.seed, registry, MemoryDisk(self.disk.clone())).with_faults(self.faults)
    }

    /// A session for it.
    pub fn session(&self) -> Session {
        Session::new(self.config.clone(), self.seed)
    }

    /// The push.
    pub fn push(&self) -> Push {
        Push::new(self.path.as_path(), self.destination.clone(), PushOptions::default())
    }

    /// Checks what has to hold at the end of a push, however it ended.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn check(&self, world: &mut Simulation, ran: &Ran<Pushed>) {
        check_nothing_sent_blindly(&ran.requests);
        match &ran.result {
            Ok(pushed) => {
                assert!(!pushed.references.is_empty(), "a push of nothing");
                for reference in &pushed.references {
                    let name = reference.repository.name().as_str();
                    let (bytes, _) = world
                        .registry()
                        .manifest(name, &reference.reference.to_string())
                        .expect("what was pushed is there");
                    assert_eq!(Digest::of(&bytes), reference.digest, "the tag leads to what was pushed");
                }
            }
            Err(why) => {
                assert!(self.faults != Faults::default(), "nothing went wrong, but: {why}");
                assert!(
                    matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)),
                    "an error that nothing here can cause: {why}"
                );
            }
        }
        self.check_registry(world);
        check_progress(&ran.events);
        let limit = self.config.requests_per_registry.get();
        assert!(ran.most_requests <= limit, "{} requests under way, {limit} allowed", ran.most_requests);
        check_width(ran, &self.config, 1);
        // Backoff is bounded: no run may hang for hours of virtual time.
        assert!(ran.took < Duration::from_secs(4 * 3600), "it took {:?}", ran.took);
    }

    /// Checks that the registry holds nothing wrong and nothing half.
    ///
    /// # Panics
    /// When it does.
    pub fn check_registry(&self, world: &mut Simulation) {
        check_holdings(world.registry());
    }
}

/// Checks that a registry holds nothing wrong and nothing half, and that nobody tried to make it.
pub(crate) fn check_holdings(registry: &Registry) {
    let ledger = registry.ledger();
    assert_eq!(ledger.mismatches, [], "bytes were committed under a wrong digest");
    assert_eq!(ledger.early_manifests, [], "a manifest was put before its blobs");
    check_held(registry);
}

/// Checks that a registry holds nothing wrong and nothing half.
pub(crate) fn check_held(registry: &Registry) {
    for repository in registry.repositories() {
        for tag in registry.tags(&repository) {
            let (bytes, media_type) = registry.manifest(&repository, &tag).expect("tags lead to manifests");
            check_manifest(registry, &repository, bytes, &media_type);
        }
    }
}

fn check_manifest(registry: &Registry, repository: &str, bytes: Bytes, media_type: &str) {
    let manifest = Manifest::parse(bytes, Some(media_type), None).expect("only manifests are put");
    match manifest.content() {
        ManifestContent::Image(image) => {
            for blob in image.blobs().filter(|blob| blob.urls.is_empty()) {
                let bytes = registry.blob(repository, blob.digest.as_str()).expect("its blobs are there");
                assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest.clone(), blob.size));
            }
        }
        ManifestContent::Index(index) => {
            for child in &index.manifests {
                let (bytes, media_type) =
                    registry.manifest(repository, child.digest.as_str()).expect("its manifests are there");
                check_manifest(registry, repository, bytes, &media_type);
            }
        }
        other => panic!("nobody put {other:?}"),
    }
}

/// How many blobs are asked to be mounted at a time.
const MOUNTS: usize = 16;

/// Checks that no more blobs are moved at a time than may be, each by so many jobs, and that little else goes on beside.
pub(crate) fn check_width<T>(ran: &Ran<T>, config: &Config, jobs: usize) {
    let transfers = config.transfers.get();
    assert!(ran.most_sending <= transfers, "{} blobs sent at once, {transfers} allowed", ran.most_sending);
    let most = (jobs * transfers).max(MOUNTS + (jobs - 1) * transfers);
    assert!(ran.most_at_once <= most, "{} jobs at once, {transfers} transfers", ran.most_at_once);
}

/// What is told of a blob goes on, and never back; that all of it is there is told once. (What goes by may hold a blob twice, and is sent
/// as often: nobody knows its digest before.)
pub(crate) fn check_progress(events: &[Event]) {
    let mut seen: BTreeMap<(String, Digest), u64> = BTreeMap::new();
    let goes_by = events.iter().any(|event| matches!(event, Event::Passing { .. }));
    for event in events {
        if let Event::Sent { repository, blob, sent } = event {
            let before = seen.insert((repository.to_string(), blob.digest.clone()), *sent);
            let again = goes_by && before == Some(blob.size) && *sent == blob.size;
            assert!(again || before.is_none_or(|before| before < *sent), "progress went from {before:?} to {sent}");
            assert!(*sent <= blob.size);
        }
    }
}

/// Images with a few layers, of which some are shared.
pub(crate) fn images(dice: &mut Dice) -> Vec<SampleImage> {
    let shared = dice.bytes(200);
    (0..1 + dice.below(3))
        .map(|at| {
            let mut layers: Vec<Bytes> = (0..dice.below(4))
                .map(|_| {
                    let length = dice.below(6000);
                    dice.bytes(length)
                })
                .collect();
            if dice.below(2) == 0 {
                layers.push(shared.clone());
                layers.push(shared.clone());
            }
            // An image without layers is legal, but no archive writer makes one.
            if layers.is_empty() {
                layers.push(dice.bytes(1));
            }
            let mut tags = vec![format!("localhost:5000/image{at}:v1")];
            if dice.below(2) == 0 {
                tags.push(format!("localhost:5000/image{at}:v2"));
            }
            if dice.below(3) == 0 {
                tags.push(format!("localhost:5000/other/place{at}:latest"));
            }
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
            SampleImage::new(&tags, &layers)
        })
        .collect()
}

/// An archive of some kind with these images, and where it is.
pub(crate) fn archive(dice: &mut Dice, images: &[SampleImage]) -> (BTreeMap<PathBuf, Bytes>, PathBuf) {
    let path = PathBuf::from("archive");
    let tar = match dice.below(4) {
        0 => make::docker_save_legacy(images),
        1 => make::docker_save_oci(images),
        2 => make::oci_archive(images),
        _ => return (MemoryDisk::folder(&path, make::oci_folder(images)).0, path),
    };
    (BTreeMap::from([(path.clone(), tar)]), path)
}

/// After a request of which part arrived and whose reply didn't, the next one to the same upload asks how far it came.
pub(crate) fn check_nothing_sent_blindly(requests: &[Asked]) {
    let upload = |asked: &Asked| {
        let (_, url) = asked.line.split_once(' ')?;
        let session = url.split('?').next().filter(|url| url.contains("/blobs/uploads/"))?;
        (!session.ends_with('/')).then(|| session.to_owned())
    };
    let carries = |asked: &Asked| asked.line.starts_with("PATCH ") || asked.line.starts_with("PUT ");
    for (at, lost) in requests.iter().enumerate() {
        let Some(id) = upload(lost).filter(|_| carries(lost) && lost.status.is_none() && lost.got > 0) else {
            continue;
        };
        let next = requests[at + 1..].iter().find(|asked| upload(asked).as_ref() == Some(&id));
        assert!(!next.is_some_and(carries), "sent again without asking: {} after {}", next.unwrap().line, lost.line);
    }
}
