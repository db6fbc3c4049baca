//! Manifests that say something about others: made by hand, and lists of them made up from a seed.

use std::collections::BTreeMap;

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::ListReferrers;
use registry_proto::spec::{Descriptor, Digest, ImageManifest, Index, Manifest, MediaType, Reference, Tag};
use registry_proto::testing::registry::{Auth, Profile, Referrers, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session};

use crate::images::{index_of, put_manifest};
use crate::scenario::Dice;

/// A signature, say, of `kind` about a manifest: an artifact with one small layer.
pub fn about(subject: &Manifest, kind: &str, content: &[u8]) -> Manifest {
    ImageManifest {
        media_type: None,
        artifact_type: Some(MediaType::new(kind)),
        config: Descriptor::new(MediaType::OCI_EMPTY, Digest::of(b"{}"), 2),
        layers: vec![Descriptor::new(MediaType::new("text/plain"), Digest::of(content), content.len() as u64)],
        subject: Some(subject.descriptor()),
        annotations: BTreeMap::from([("content".to_owned(), String::from_utf8_lossy(content).into_owned())]),
    }
    .to_manifest()
}

/// Puts one there with its blobs.
pub fn put_about(registry: &mut Registry, repository: &str, subject: &Manifest, kind: &str, content: &str) -> Manifest {
    let manifest = about(subject, kind, content.as_bytes());
    registry.insert_blob(repository, Bytes::from_static(b"{}"));
    registry.insert_blob(repository, Bytes::copy_from_slice(content.as_bytes()));
    put_manifest(registry, repository, None, &manifest);
    manifest
}

/// Puts the list of what refers to a manifest under the tag for that, as clients do for registries that don't.
pub fn put_list(registry: &mut Registry, repository: &str, subject: &Digest, listed: Vec<Descriptor>) -> Manifest {
    let list = index_of(listed);
    put_manifest(registry, repository, Some(Tag::of_referrers(subject).as_str()), &list);
    list
}

/// What the list of a manifest's referrers names, as clients keep it; `None` if there is none.
///
/// # Panics
/// When something else is under its tag.
pub fn list_of(registry: &Registry, repository: &str, subject: &Digest) -> Option<Vec<Descriptor>> {
    let (bytes, media_type) = registry.manifest(repository, Tag::of_referrers(subject).as_str())?;
    let list = Manifest::parse(bytes, Some(&media_type), None).unwrap();
    Some(list.index().unwrap().manifests.clone())
}

/// A list of referrers made up from a seed.
#[derive(Debug)]
pub struct ListScenario {
    seed: u64,
    registry: Registry,
    config: Config,
    faults: Faults,
    subject: Reference,
    kind: Option<MediaType>,
    /// In the order in which they are to be found.
    expected: Vec<Descriptor>,
}

/// The host of its registry.
const HERE: &str = "localhost:5000";
const KINDS: [&str; 3] = ["application/vnd.example.sbom+json", "application/vnd.example.signature", "text/plain"];

impl ListScenario {
    /// The scenario of a seed. Every tenth has no misfortune at all: it has to succeed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut config = Config::default();
        config.retries = 12;
        let mut profile = match dice.below(3) {
            0 => Profile::distribution_2_8(),
            1 => Profile::distribution_3(),
            _ => Profile::strict(),
        };
        profile.referrers = match dice.below(8) {
            0 => Referrers::Page("<html>Welcome!</html>"),
            1 => Referrers::Page("{}"),
            2 => Referrers::Unknown([404, 405, 406, 501][dice.below(4) as usize].try_into().unwrap()),
            3 => Referrers::Unknown(http::StatusCode::NOT_FOUND),
            _ => Referrers::Listed,
        };
        profile.referrers_page = (dice.below(2) == 0).then(|| 1 + dice.below(4) as usize);
        profile.filters_referrers = dice.below(2) == 0;
        profile.digests_as_tags = dice.below(4) == 0;
        if dice.below(3) == 0 {
            profile.requires_auth = Some(Auth::bearer_for("/token", HERE, "user", "secret"));
            config.log_in(&HERE.parse().unwrap(), Credential::password("user", "secret"));
        }
        let listed = profile.referrers == Referrers::Listed;
        let mut registry = Registry::new(profile);
        let others = index_of(vec![put_about(&mut registry, "app", &index_of(Vec::new()), KINDS[0], "x").descriptor()]);
        let subject = if dice.below(2) == 0 { others } else { about(&others, "text/plain", b"an image like others") };
        put_manifest(&mut registry, "app", Some("v1"), &subject);
        let mut all: Vec<Descriptor> = (0..dice.below(12))
            .map(|at| {
                let kind = KINDS[dice.below(3) as usize];
                if dice.below(4) == 0 {
                    let index = Index {
                        media_type: None,
                        artifact_type: Some(MediaType::new(kind)),
                        manifests: Vec::new(),
                        subject: Some(subject.descriptor()),
                        annotations: BTreeMap::from([("at".to_owned(), at.to_string())]),
                    };
                    let index = index.to_manifest();
                    put_manifest(&mut registry, "app", None, &index);
                    return index.referrer();
                }
                put_about(&mut registry, "app", &subject, kind, &format!("number {at}")).referrer()
            })
            .collect();
        if listed {
            all.sort_by(|one, other| one.digest.cmp(&other.digest));
            put_list(&mut registry, "app", subject.digest(), Vec::new());
        } else if !all.is_empty() || dice.below(2) == 0 {
            // Clients that don't look add what is there already.
            let twice = all.first().cloned();
            put_list(&mut registry, "app", subject.digest(), all.iter().cloned().chain(twice).collect());
        }
        let kind = (dice.below(2) == 0).then(|| MediaType::new(KINDS[dice.below(3) as usize]));
        let expected = all.into_iter().filter(|one| kind.is_none() || one.artifact_type == kind).collect();
        let subject = match dice.below(2) {
            0 => format!("{HERE}/app:v1"),
            _ => format!("{HERE}/app@{}", subject.digest()),
        };
        let mut faults = Faults::default();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(400);
            faults.revoked_tokens = dice.below(30);
        }
        Self { seed, registry, config, faults, subject: subject.parse().unwrap(), kind, expected }
    }

    /// Runs it and checks what has to hold at its end. Whether it succeeded.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn run(&self, show: bool) -> bool {
        let mut world =
            Simulation::new(self.seed, self.registry.clone(), MemoryDisk::default()).with_faults(self.faults);
        let mut flow = ListReferrers::new(&self.subject);
        if let Some(kind) = &self.kind {
            flow = flow.of_type(kind.clone());
        }
        let mut session = Session::new(self.config.clone(), self.seed);
        let ran = world.run(&mut session, flow);
        if show {
            println!("{}\n{:#?}\n{:#?}\n{:?}", self.subject, ran.requests, ran.events, ran.result);
        }
        self.check(&ran);
        // Once it is known that the registry has no list, it is not asked for one.
        if ran.result.is_ok() && self.registry.profile().referrers != Referrers::Listed {
            let again = world.run(&mut session, ListReferrers::new(&self.subject));
            assert!(!again.requests.iter().any(|asked| asked.line.contains("/referrers/")), "{:#?}", again.requests);
        }
        ran.result.is_ok()
    }

    fn check(&self, ran: &Ran<Vec<Descriptor>>) {
        match &ran.result {
            Ok(found) => assert_eq!(*found, self.expected),
            Err(why) => {
                assert!(self.faults != Faults::default(), "nothing went wrong, but: {why}");
                assert!(matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)), "{why}");
            }
        }
        let reads = |line: &str| line.starts_with("GET ") || line.starts_with("HEAD ");
        assert!(ran.requests.iter().all(|asked| reads(&asked.line)), "{:#?}", ran.requests);
        assert_eq!(ran.most_at_once, 1, "one after the other");
    }
}
