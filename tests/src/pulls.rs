//! Pulls made up from a seed: images in a registry, what to make of them, what an earlier run left, and misfortune.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::archive::{Archive, ArchiveFormat, ArchiveImage, Limits};
use registry_proto::flow::{Platforms, Pull, PullOptions, Pulled, VerifyArchive};
use registry_proto::spec::{Descriptor, Digest, ImageManifest, MediaType, Reference};
use registry_proto::testing::registry::{Auth, Profile, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session};
use serde_json::json;

use crate::images::{entry, index_of, put_manifest};
use crate::scenario::Dice;

const HOST: &str = "localhost:5000";
/// What was in the archive's place before.
const BEFORE: &[u8] = b"something else";

/// Everything about one simulated pull.
#[derive(Debug)]
pub struct PullScenario {
    /// What it was made from.
    pub seed: u64,
    /// The registry with the images.
    pub registry: Registry,
    /// What is pulled, and the digests that it should have.
    pub references: Vec<(Reference, Digest)>,
    /// What becomes of it.
    pub options: PullOptions,
    /// How the client behaves.
    pub config: Config,
    /// What goes wrong.
    pub faults: Faults,
    /// Where the archive goes.
    pub out: PathBuf,
}

impl PullScenario {
    /// The scenario of a seed. Every tenth has no misfortune at all: it has to succeed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut config = Config::default();
        config.transfers = NonZeroUsize::new(1 + dice.below(6) as usize).unwrap();
        config.retries = 12;
        let mut profile = match dice.below(3) {
            0 => Profile::distribution_2_8(),
            1 => Profile::distribution_3(),
            _ => Profile::strict(),
        };
        if dice.below(3) == 0 {
            profile.requires_auth = Some(Auth::bearer_for("/token", HOST, "user", "secret"));
            config.log_in(&HOST.parse().unwrap(), Credential::password("user", "secret"));
        }
        profile.range_max = (dice.below(4) == 0).then(|| 50 + dice.below(500));
        profile.serves_ranges = dice.below(4) != 0;
        profile.redirect_blobs = (dice.below(4) == 0).then(|| "http://localhost:5002/storage".to_owned());
        let mut registry = Registry::new(profile);
        let mut options = PullOptions::default();
        options.format = match dice.below(4) {
            0 => ArchiveFormat::Docker,
            1 => ArchiveFormat::Oci,
            2 => ArchiveFormat::OciFolder,
            _ => ArchiveFormat::DockerAndOci,
        };
        options.platforms = match dice.below(2) {
            0 if options.format != ArchiveFormat::Docker => Platforms::All,
            _ => Platforms::Only("linux/arm64".parse().unwrap()),
        };
        let mut references: Vec<(Reference, Digest)> = Vec::new();
        for at in 0..=dice.below(3) {
            let one = image(&mut dice, &mut registry, at, &options.platforms);
            // (What is asked for twice is pulled once.)
            if !references.contains(&one) {
                references.push(one);
            }
        }
        let mut faults = Faults::default();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(300);
            faults.revoked_tokens = dice.below(30);
            faults.spoilt_replies = if dice.below(4) == 0 { dice.below(30) } else { 0 };
        }
        let out = if options.format == ArchiveFormat::OciFolder { "/out/folder" } else { "/out/images.tar" };
        Self { seed, registry, references, options, config, faults, out: out.into() }
    }

    /// A world to run it in, where there is something in the archive's place.
    pub fn world(&self) -> Simulation {
        let disk = match self.options.format {
            ArchiveFormat::OciFolder => MemoryDisk::default(),
            _ => MemoryDisk::with(&self.out, BEFORE),
        };
        Simulation::new(self.seed, self.registry.clone(), disk).with_faults(self.faults)
    }

    /// A session for it.
    pub fn session(&self) -> Session {
        Session::new(self.config.clone(), self.seed)
    }

    /// The pull.
    pub fn pull(&self) -> Pull {
        let references = self.references.iter().map(|(reference, _)| reference.clone());
        Pull::new(references, &self.out, self.options.clone())
    }

    /// Checks what has to hold at the end of a pull, however it ended.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn check(&self, world: &mut Simulation, ran: &Ran<Pulled>) {
        self.check_names(world);
        match &ran.result {
            Ok(pulled) => {
                let found: Vec<_> =
                    pulled.images.iter().map(|one| (one.reference.clone(), one.digest.clone())).collect();
                assert_eq!(found, self.references);
                self.check_archive(world);
                let left = world.files().snapshot().0.into_keys().filter(|path| path.ends_with(".partial")).count();
                assert_eq!(left, 0, "something was left behind");
            }
            Err(why) => {
                assert!(self.faults != Faults::default(), "nothing went wrong, but: {why}");
                let is_spoilt = matches!(why, Error::Integrity { .. } | Error::Protocol { .. });
                assert!(
                    matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_))
                        || self.faults.spoilt_replies > 0 && is_spoilt,
                    "an error that nothing here can cause: {why}"
                );
            }
        }
        // (Manifests are fetched side by side for each image, and images side by side.)
        let most = self.config.transfers.get().pow(2).min(self.config.requests_per_registry.get());
        assert!(ran.most_at_once <= most, "{} jobs at once", ran.most_at_once);
        assert!(ran.took.as_secs() < 8 * 3600, "it took {:?}", ran.took);
    }

    /// Checks that nothing half-written or wrong has a final name, at any time.
    ///
    /// # Panics
    /// When something has.
    pub fn check_names(&self, world: &Simulation) {
        let files = world.files().snapshot();
        for (path, content) in &files.0 {
            let name = path.file_name().unwrap().to_str().unwrap();
            if Path::new(name).extension().is_some_and(|end| end == "partial") {
                continue;
            }
            if path.parent().unwrap().ends_with("blobs/sha256") {
                assert_eq!(Digest::of(content).encoded(), name, "a blob that is not what it is called");
            }
            if *path == self.out {
                assert!(content == BEFORE || self.archive(&files).is_some(), "half of an archive has its name");
            }
        }
        if files.0.contains_key(&self.out.join("index.json")) {
            assert!(self.archive(&files).is_some(), "the index lists what is not there");
        }
    }

    fn archive(&self, files: &MemoryDisk) -> Option<Archive> {
        whole_archive(files, &self.out)
    }

    /// The archive holds what was asked for, by the names that it was asked for by.
    fn check_archive(&self, world: &mut Simulation) {
        let files = world.files().snapshot();
        let archive = self.archive(&files).expect("the archive is whole and right");
        let named = |reference: &Reference| -> Option<&ArchiveImage> {
            let tagged = reference.clone().with_default_tag();
            archive.images().iter().find(|image| image.names().iter().any(|name| name.reference() == Some(&tagged)))
        };
        for (reference, digest) in &self.references {
            let image = archive.images().iter().find(|image| image.root().digest() == digest);
            assert!(image.is_some(), "{reference} is not in the archive");
            if reference.digest().is_none() {
                assert_eq!(
                    named(reference).map(|image| image.root().digest()),
                    Some(digest),
                    "the name leads elsewhere"
                );
            }
        }
    }
}

/// The archive at a path, if all of it is there and right.
pub(crate) fn whole_archive(files: &MemoryDisk, path: &Path) -> Option<Archive> {
    let shared: Arc<Path> = path.into();
    let archive = Archive::read(files, &shared, &Limits::default()).ok()?;
    let mut world = Simulation::new(1, Registry::new(Profile::strict()), files.clone());
    let verified = world.run(&mut Session::new(Config::default(), 1), VerifyArchive::new(path)).result.unwrap();
    (verified.faults.is_empty() && verified.damaged.is_empty()).then_some(archive)
}

/// Puts an image, or an index, into a registry; what to ask for, and what should come of it.
pub(crate) fn image(dice: &mut Dice, registry: &mut Registry, at: u64, platforms: &Platforms) -> (Reference, Digest) {
    let name = ["app", "other/app", "app"][at as usize % 3];
    let tag = format!("v{at}");
    let shared = Bytes::from(vec![7; 600]);
    let one = |dice: &mut Dice, registry: &mut Registry, machine: &str| {
        let mut layers = vec![shared.clone()];
        for _ in 0..dice.below(4) {
            let length = dice.below(6000);
            let mut layer = Vec::from(dice.bytes(length));
            match dice.below(3) {
                // As tars end.
                0 => layer.resize(layer.len() + 1024, 0),
                1 => layer = vec![0; layer.len()],
                _ => {}
            }
            layers.push(layer.into());
        }
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": machine, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut put = |bytes: Bytes, kind| {
            let size = bytes.len() as u64;
            Descriptor::new(kind, registry.insert_blob(name, bytes), size)
        };
        let manifest = ImageManifest {
            media_type: None,
            artifact_type: None,
            config: put(config.to_string().into(), MediaType::OCI_CONFIG),
            layers: layers.into_iter().map(|layer| put(layer, MediaType::OCI_LAYER)).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        }
        .to_manifest();
        put_manifest(registry, name, None, &manifest);
        manifest
    };
    let arm64 = one(dice, registry, "arm64");
    let (root, wanted) = if dice.below(3) == 0 {
        (arm64.clone(), arm64)
    } else {
        let amd64 = one(dice, registry, "amd64");
        let index = index_of(vec![entry(&amd64, "linux/amd64"), entry(&arm64, "linux/arm64")]);
        let wanted = if *platforms == Platforms::All { index.clone() } else { arm64 };
        (index, wanted)
    };
    put_manifest(registry, name, Some(&tag), &root);
    let reference = match dice.below(4) {
        0 => format!("{HOST}/{name}@{}", root.digest()),
        _ => format!("{HOST}/{name}:{tag}"),
    };
    (reference.parse().unwrap(), wanted.digest().clone())
}
