//! Everything at once, made up from a seed: pushes, pulls, copies, deletions and lists side by side on one session, between
//! two registries that behave like those that people use, with every misfortune that the simulation knows, and killed now and
//! then.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use registry_proto::archive::ArchiveFormat;
use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{Destination, Each, Fleet, Platforms, PullOptions};
use registry_proto::spec::{Digest, Reference};
use registry_proto::testing::registry::{Auth, Outcome, Profile, RangeDialect, Registry, Support};
use registry_proto::testing::simulation::{Asked, Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session, UploadPolicy};

use crate::images;
use crate::operation::{Came, Operation};
use crate::pulls::whole_archive;
use crate::scenario::{Dice, check_held, check_nothing_sent_blindly};
use crate::{copies, pulls, scenario};

/// The first registry's host; its token server and its storage are at the two ports after.
const HERE: &str = "localhost:5000";
/// The second registry's host.
const THERE: &str = "localhost:6000";
/// How often a client is killed and started again.
const KILLS: usize = 3;
/// No blob here is larger, in bytes.
const LARGEST: u64 = 8000;

/// Everything about one such run.
#[derive(Debug)]
pub struct Together {
    /// What it was made from.
    pub seed: u64,
    /// What both registries hold at the beginning.
    pub registries: [Registry; 2],
    /// Whose behaviour they have.
    pub vendors: [&'static str; 2],
    /// The archives that are pushed.
    pub disk: BTreeMap<PathBuf, Bytes>,
    /// What is done, all of it at once.
    pub operations: Vec<Operation>,
    /// How the client behaves.
    pub config: Config,
    /// What goes wrong.
    pub faults: Faults,
    /// At which jobs the client is killed, one life after another.
    pub kills: Vec<u64>,
    /// Whether it is all done twice on one session, and the first registry loses blobs in between.
    pub collects_garbage: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations that were run to their end.
    pub operations: u64,
    /// Those of them that did what they should.
    pub right: u64,
    /// Requests that were made.
    pub requests: u64,
}

/// What a client begins with that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Nothing: what was done is seen by asking the registries and looking at the files.
    FromNothing,
}

/// Every kind of registry that there is, by name.
pub fn profiles() -> Vec<(&'static str, Profile)> {
    Profile::vendors().into_iter().chain([("strict", Profile::strict())]).collect()
}

/// The profile with limits that blobs of some thousand bytes come up against.
fn scaled(profile: Profile) -> Profile {
    let scale = |limit: Option<u64>| limit.map(|limit| if limit > 50_000_000 { limit >> 14 } else { limit >> 12 });
    Profile {
        chunk_min: scale(profile.chunk_min),
        chunk_max: scale(profile.chunk_max),
        max_body: scale(profile.max_body),
        // (That they have to be is tried elsewhere.)
        creates_repositories: true,
        ..profile
    }
}

impl Together {
    /// The scenario of a seed. Every tenth has no misfortune at all: everything has to succeed that the registries can do.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let profiles = profiles();
        let picked = [seed % profiles.len() as u64, dice.below(profiles.len() as u64)]
            .map(|at| profiles[usize::try_from(at).unwrap()].clone());
        let vendors = [picked[0].0, picked[1].0];
        let [mut here, mut there] = picked.map(|(_, profile)| scaled(profile));
        let mut config = config(&mut dice);
        here.requires_auth = auth(&mut dice, &mut config, HERE, "here");
        there.requires_auth = auth(&mut dice, &mut config, THERE, "there");
        here.redirect_blobs = (dice.below(4) == 0).then(|| "http://localhost:5002/storage".to_owned());
        here.signs_for_get = dice.below(2) == 0;
        here.range_max = (dice.below(6) == 0).then(|| 50 + dice.below(500));
        let formats = if here.refused_media_types.is_empty() { 4 } else { 2 };
        let mut registries = [here, there].map(Registry::new);

        let roots = [0, 1].map(|at: usize| copies::image(&mut dice, &mut registries[at], "v1"));
        let mut disk = BTreeMap::new();
        let archives: Vec<PathBuf> = (0..2)
            .map(|at| {
                let path = PathBuf::from(format!("archive{at}"));
                disk.extend(archive(&mut dice, path.clone(), formats));
                path
            })
            .collect();
        let operations =
            (0..2 + dice.below(6)).map(|at| operation(&mut dice, at, &mut registries, &roots, &archives)).collect();

        let mut faults = Faults::default();
        let mut kills = Vec::new();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(250);
            faults.lost_sessions = dice.below(12);
            faults.revoked_tokens = dice.below(20);
            faults.lost_digesters = dice.below(400);
            faults.late_replies = dice.below(150);
            // Where no digest is told, nobody can know that what a tag leads to is not what it should be.
            let told = registries.iter().all(|registry| registry.profile().tells_digest);
            faults.spoilt_replies = if told && dice.below(6) == 0 { dice.below(20) } else { 0 };
            faults.clock_jumps = if dice.below(3) == 0 { dice.below(20) } else { 0 };
            faults.body_limit = (dice.below(8) == 0).then(|| 2500 + dice.below(3000));
        }
        if dice.below(3) == 0 {
            kills = (0..1 + dice.below(KILLS as u64)).map(|_| 1 + dice.below(120)).collect();
        }
        let collects_garbage = kills.is_empty() && dice.below(4) == 0;
        Self { seed, registries, vendors, disk, operations, config, faults, kills, collects_garbage }
    }

    /// Runs it to its end and checks what has to hold then, and after each kill.
    ///
    /// # Panics
    /// When it doesn't hold.
    pub fn run(&self, show: bool) -> Tally {
        let [here, there] = self.registries.clone();
        let mut world = Simulation::new(self.seed, here, MemoryDisk(self.disk.clone()))
            .with_registry(THERE, there)
            .with_faults(self.faults);
        let mut session = self.session(0);
        let mut requests = 0;
        for (life, kill_at) in (1..).zip(&self.kills) {
            let Err(asked) = world.run_until(&mut session, self.flow(), *kill_at) else { continue };
            requests += asked.len() as u64;
            self.check_registries(&mut world, &BTreeSet::new());
            self.check_files(&world);
            session = match Again::FromNothing {
                Again::FromNothing => self.session(life),
            };
        }
        let ran = world.run(&mut session, self.flow());
        requests += ran.requests.len() as u64;
        if show {
            println!("{self:#?}\n{:#?}\n{:#?}\n{:#?}", ran.requests, ran.events, ran.result);
        }
        let mut tally = self.check(&mut world, &ran, &BTreeSet::new());
        if self.collects_garbage {
            let gone = collect_garbage(world.registry());
            if gone.is_empty() {
                return Tally { requests, ..tally };
            }
            let ran = world.run(&mut session, self.flow());
            requests += ran.requests.len() as u64;
            if show {
                println!("without {gone:#?}\n{:#?}\n{:#?}\n{:#?}", ran.requests, ran.events, ran.result);
            }
            let second = self.check(&mut world, &ran, &gone);
            tally.operations += second.operations;
            tally.right += second.right;
        }
        Tally { requests, ..tally }
    }

    fn session(&self, life: u64) -> Session {
        Session::new(self.config.clone(), self.seed.wrapping_add(life))
    }

    /// How many blobs may be on their way at a time.
    fn moving(&self) -> usize {
        self.operations.len() * self.config.transfers.get()
    }

    fn flow(&self) -> Fleet<Each<crate::operation::Running>> {
        let width = NonZeroUsize::new(self.operations.len()).expect("there are two at least");
        Fleet::new(self.operations.iter().map(|operation| Each::new(operation.start())), width)
    }

    /// `gone`: blobs that the first registry lost after they were pushed.
    fn check(&self, world: &mut Simulation, ran: &Ran<Vec<Result<Came, Error>>>, gone: &BTreeSet<Digest>) -> Tally {
        let results = ran.result.as_ref().expect("each failure is a result");
        assert_eq!(results.len(), self.operations.len());
        for (operation, result) in self.operations.iter().zip(results) {
            match result {
                Ok(came) => self.check_came(world, operation, came),
                Err(why) => {
                    let again = !self.kills.is_empty() || !gone.is_empty();
                    assert!(self.may_fail(operation, why, again), "{operation:?}: {why:?}\n{why}");
                }
            }
        }
        self.check_registries(world, gone);
        self.check_files(world);
        self.check_secrets(world, ran, results);
        self.check_limits(ran);
        let failed = results.iter().filter(|result| result.is_err()).count();
        self.check_resent(world, failed);
        check_nothing_sent_blindly(&ran.requests);
        let right = results.iter().filter(|result| result.is_ok()).count() as u64;
        Tally { operations: results.len() as u64, right, requests: 0 }
    }

    fn check_came(&self, world: &mut Simulation, operation: &Operation, came: &Came) {
        let leads_to = |world: &mut Simulation, reference: &Reference, digest: &Digest| {
            let registry = world.registry_of(reference.repository().registry().as_str());
            let target = reference.target().to_string();
            let found = registry.manifest(reference.repository().name().as_str(), &target);
            assert_eq!(found.map(|(bytes, _)| Digest::of(&bytes)).as_ref(), Some(digest), "{reference}");
        };
        match (operation, came) {
            (Operation::Push { .. }, Came::Pushed(pushed)) => {
                assert!(!pushed.references.is_empty(), "a push of nothing");
                for one in &pushed.references {
                    let registry = world.registry_of(one.repository.registry().as_str());
                    let found = registry.manifest(one.repository.name().as_str(), &one.reference.to_string());
                    assert_eq!(found.map(|(bytes, _)| Digest::of(&bytes)).as_ref(), Some(&one.digest));
                }
            }
            (Operation::Pull { wanted, out, .. }, Came::Pulled(_)) => {
                let archive = whole_archive(&world.files().snapshot(), out).expect("the archive is whole and right");
                assert!(archive.images().iter().any(|image| image.root().digest() == wanted), "it is another image");
            }
            (Operation::Copy { to, root, .. }, Came::Copied(digest)) => {
                assert_eq!(digest, root);
                leads_to(world, to, root);
            }
            (Operation::Tag { from, tag, root }, Came::Tagged(digest)) => {
                assert_eq!(digest, root);
                leads_to(world, &from.clone().with_tag(tag.parse().unwrap()), root);
            }
            (Operation::Inspect { root, .. }, Came::Inspected(digest)) => assert_eq!(digest, root),
            // A name on a list may be another one, and nobody can know.
            (Operation::Tags(_) | Operation::Catalog(_), Came::Listed(_)) if self.faults.spoilt_replies > 0 => {}
            (Operation::Tags(_), Came::Listed(tags)) => {
                let given: Vec<&str> = self
                    .operations
                    .iter()
                    .filter_map(|operation| match operation {
                        Operation::Tag { tag, .. } => Some(tag.as_str()),
                        _ => None,
                    })
                    .chain(["v1"])
                    .collect();
                assert!(tags.iter().any(|tag| tag == "v1"), "{tags:?}");
                assert!(tags.iter().all(|tag| given.contains(&tag.as_str())), "{tags:?}, of {given:?}");
                assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), tags.len(), "each once: {tags:?}");
            }
            (Operation::Catalog(_), Came::Listed(found)) => {
                let before = self.registries[0].repositories();
                assert!(before.iter().all(|one| found.contains(one)), "{before:?} were there, {found:?} are listed");
            }
            (Operation::Delete(reference) | Operation::Untag(reference), Came::Deleted) => {
                let name = reference.repository().name().as_str();
                let target = reference.target().to_string();
                assert!(world.registry().manifest(name, &target).is_none(), "{reference} is still there");
            }
            (operation, came) => panic!("{operation:?} yields {came:?}"),
        }
    }

    /// Whether something is the matter with the registry, the network or the setting that accounts for an error. `again`: it may
    /// have been done before.
    fn may_fail(&self, operation: &Operation, why: &Error, again: bool) -> bool {
        let here = self.registries[0].profile();
        let text = why.to_string();
        match (operation, why) {
            (Operation::Catalog(_), Error::Registry(_) | Error::Denied(_)) if here.catalog != Support::Yes => true,
            (Operation::Delete(_) | Operation::Untag(_), Error::Registry(_) | Error::Denied(_))
                if here.delete != Support::Yes || !here.delete_tags =>
            {
                true
            }
            (Operation::Delete(_) | Operation::Untag(_), Error::Registry(_)) if again && text.contains("404") => true,
            (_, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)) => self.faults != Faults::default(),
            (_, Error::Integrity { .. } | Error::Protocol { .. }) => self.faults.spoilt_replies > 0,
            _ => false,
        }
    }

    fn check_registries(&self, world: &mut Simulation, gone: &BTreeSet<Digest>) {
        for host in [HERE, THERE] {
            let registry = world.registry_of(host);
            check_held(registry);
            let ledger = registry.ledger();
            let early = ledger.early_manifests.iter().flat_map(|early| &early.missing);
            let early: Vec<_> = early.filter(|missing| !gone.contains(missing)).collect();
            assert!(early.is_empty(), "a manifest was put before its blobs: {early:?}");
            // Who counts in two ways misleads those that are under way when that shows.
            let misleads = registry.profile().range == RangeDialect::Exclusive;
            let most = if misleads { self.moving() * (1 + self.kills.len()) } else { 0 };
            assert!(ledger.mismatches.len() <= most, "under a wrong digest: {:?}", ledger.mismatches);
            assert_eq!(ledger.credentials_to_storage, 0, "credentials came to storage");
        }
    }

    /// Nothing half-written or wrong has a final name.
    fn check_files(&self, world: &Simulation) {
        let files = world.files().snapshot();
        for operation in &self.operations {
            let Operation::Pull { out, .. } = operation else { continue };
            if files.0.contains_key(out) || files.0.contains_key(&out.join("index.json")) {
                assert!(whole_archive(&files, out).is_some(), "half of an archive has its name: {}", out.display());
            }
        }
    }

    /// Credentials came to nobody else, and nothing that is told has one in it.
    fn check_secrets(&self, world: &Simulation, ran: &Ran<Vec<Result<Came, Error>>>, results: &[Result<Came, Error>]) {
        assert_eq!(world.shown_to_two(), None, "a credential was shown to two");
        let lines = ran.requests.iter().map(|asked: &Asked| asked.line.clone());
        let told = ran.events.iter().map(|event| format!("{event:?}"));
        let errors = results.iter().filter_map(|result| result.as_ref().err()).map(|why| format!("{why} {why:?}"));
        let all: String = lines.chain(told).chain(errors).collect::<Vec<_>>().join("\n");
        assert!(!world.gives_away(&all), "a secret is told");
    }

    fn check_limits(&self, ran: &Ran<Vec<Result<Came, Error>>>) {
        let places = self.config.requests_per_registry.get();
        assert!(ran.most_requests <= places, "{} requests at once, {places} allowed", ran.most_requests);
        let moving = self.moving();
        assert!(ran.most_sending <= moving, "{} blobs sent at once, {moving} allowed", ran.most_sending);
        // Pieces of what is copied; configurations and manifests, which are small.
        let most = moving as u64 * (4 * self.config.piece.get()).min(LARGEST);
        assert!(ran.most_in_memory <= most, "{} bytes of bodies in memory, {most} allowed", ran.most_in_memory);
        // Backoff is bounded: no run may hang for days of virtual time.
        let longest = if self.faults.clock_jumps > 0 { 100 * 24 } else { 24 };
        assert!(ran.took < Duration::from_secs(longest * 3600), "it took {:?}", ran.took);
    }

    /// What is sent again is accounted for: by something that went wrong, or by something that a registry has to be learned
    /// to do, which happens to a few blobs only.
    fn check_resent(&self, world: &mut Simulation, failed: usize) {
        let misfortunes = world.misfortunes();
        for host in [HERE, THERE] {
            let registry = world.registry_of(host);
            let profile = registry.profile().clone();
            let ledger = registry.ledger();
            let mut wasted = 0;
            for session in ledger.sessions.values() {
                match &session.outcome {
                    // Into one upload no byte goes twice.
                    Outcome::Committed(digest) => {
                        let blob = registry.blob(&session.repository, digest.as_str());
                        assert!(
                            blob.is_none_or(|blob| blob.len() as u64 == session.received),
                            "{} bytes were sent for {digest}",
                            session.received
                        );
                    }
                    _ => wasted += session.received,
                }
            }
            let plain = profile.chunk_max.is_none()
                && profile.max_body.is_none()
                && profile.empty_end
                && profile.patch == Support::Yes;
            // Each operation may run into what is learned before the first has learned it.
            let lessons = if plain { 0 } else { self.moving() as u64 * 4 };
            // With what fails or is killed ends all that it was doing.
            let stopped = (failed * self.config.transfers.get() + self.kills.len() * self.moving()) as u64;
            let most = (misfortunes + lessons + stopped) * LARGEST;
            assert!(
                wasted <= most,
                "{wasted} bytes were sent for nothing, though only {misfortunes} things went wrong"
            );
            if self.faults == Faults::default() && self.kills.is_empty() && plain && !self.collects_garbage {
                assert_eq!(wasted, 0, "nothing went wrong, but bytes were sent for nothing");
                assert_eq!(registry.open_uploads(), 0, "uploads were left open");
            }
        }
    }
}

fn config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.transfers = NonZeroUsize::new(1 + dice.below(5) as usize).unwrap();
    if dice.below(3) == 0 {
        config.requests_per_registry = NonZeroUsize::new(1 + dice.below(6) as usize).unwrap();
    }
    config.retries = 12;
    config.limits.chunk_min = 16;
    config.piece = NonZeroU64::new(if dice.below(2) == 0 { LARGEST } else { 400 + dice.below(4000) }).unwrap();
    config.upload = match dice.below(5) {
        0 => UploadPolicy::Chunked(NonZeroU64::new(300 + dice.below(2000)).unwrap()),
        _ => UploadPolicy::Auto,
    };
    config
}

/// Each registry has a user and a password of its own.
fn auth(dice: &mut Dice, config: &mut Config, host: &str, service: &str) -> Option<Auth> {
    let (user, password) = (format!("user-{service}"), format!("secret-{service}"));
    let mut auth = match dice.below(4) {
        0 => return None,
        1 => Auth::basic(&user, &password),
        2 if host == HERE => Auth::bearer_for("http://localhost:5001/token", service, &user, &password),
        _ => Auth::bearer_for("/token", service, &user, &password),
    };
    if let Auth::Bearer { lifetime, .. } = &mut auth {
        *lifetime = Duration::from_secs(60 + dice.below(300));
    }
    config.log_in(&host.parse().unwrap(), Credential::password(user, password));
    Some(auth)
}

fn archive(dice: &mut Dice, path: PathBuf, formats: u64) -> BTreeMap<PathBuf, Bytes> {
    let images: Vec<SampleImage> = scenario::images(dice);
    let tar = match dice.below(formats) {
        0 => make::oci_archive(&images),
        1 => return MemoryDisk::folder(&path, make::oci_folder(&images)).0,
        2 => make::docker_save_legacy(&images),
        _ => make::docker_save_oci(&images),
    };
    BTreeMap::from([(path, tar)])
}

fn operation(
    dice: &mut Dice,
    at: u64,
    registries: &mut [Registry; 2],
    roots: &[Digest; 2],
    archives: &[PathBuf],
) -> Operation {
    let reference = |text: String| -> Reference { text.parse().unwrap() };
    let stock = |host: &str| reference(format!("{host}/from/here:v1"));
    match dice.below(16) {
        0..4 => {
            // The same archive may go to the same place twice.
            let which = dice.below(2);
            let takes_all = registries[1].profile().refused_media_types.is_empty();
            let host = if takes_all && dice.below(3) == 0 { THERE } else { HERE };
            let to = Destination::Below(format!("{host}/below{which}"));
            Operation::Push { archive: archives[which as usize].clone(), to }
        }
        4..7 => {
            let mut options = PullOptions::default();
            options.format =
                [ArchiveFormat::Oci, ArchiveFormat::DockerAndOci, ArchiveFormat::OciFolder][dice.below(3) as usize];
            options.platforms = match dice.below(2) {
                0 => Platforms::All,
                _ => Platforms::Only("linux/arm64".parse().unwrap()),
            };
            let (from, wanted) = pulls::image(dice, &mut registries[0], at, &options.platforms);
            Operation::Pull { from, wanted, options, out: format!("/out/{at}").into() }
        }
        7..11 => {
            let [from, to] = [[HERE, THERE], [THERE, HERE], [HERE, HERE]][dice.below(3) as usize];
            let root = roots[usize::from(from == THERE)].clone();
            Operation::Copy { from: stock(from), to: reference(format!("{to}/to/{at}:v2")), root }
        }
        11 => Operation::Tag { from: stock(HERE), tag: format!("t{at}"), root: roots[0].clone() },
        12 => Operation::Inspect { from: stock(HERE), root: roots[0].clone() },
        13 if dice.below(2) == 0 => Operation::Tags(stock(HERE).repository().clone()),
        13 => Operation::Catalog(HERE.parse().unwrap()),
        _ => {
            let tag = format!("d{at}");
            images::put(&mut registries[0], "doomed", Some(&tag), &images::image(&[tag.as_bytes()]));
            let doomed = reference(format!("{HERE}/doomed:{tag}"));
            if dice.below(2) == 0 { Operation::Delete(doomed) } else { Operation::Untag(doomed) }
        }
    }
}

/// What was pushed is deleted by somebody else, and so is about every other blob of it. Which ones those were.
fn collect_garbage(registry: &mut Registry) -> BTreeSet<Digest> {
    let mut gone = BTreeSet::new();
    for repository in registry.repositories().into_iter().filter(|name| name.starts_with("below")) {
        let committed: Vec<Digest> = registry
            .ledger()
            .commits
            .keys()
            .filter(|(name, digest)| *name == repository && digest.as_str().as_bytes()[7].is_multiple_of(2))
            .map(|(_, digest)| digest.clone())
            .collect();
        registry.forget_manifests(&repository);
        for digest in committed {
            registry.remove_blob(&repository, digest.as_str());
            gone.insert(digest);
        }
    }
    gone
}
