//! Lists of referrers that clients keep: pushes, copies and deletions of what refers to others, made up from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{
    Copy, CopyOptions, DeleteManifest, Destination, Each, Fleet, Flow, ListReferrers, Push, PushOptions,
};
use registry_proto::job::Completion;
use registry_proto::spec::{Digest, Manifest};
use registry_proto::testing::registry::{Auth, Profile, Referrers, Registry, Support};
use registry_proto::testing::simulation::{Faults, Simulation};
use registry_proto::{Config, Context, Credential, Error, Session, Step};

use crate::images::{image, index_of, put};
use crate::referrers::{about, list_of, put_about, put_list};
use crate::scenario::{Dice, check_holdings};

const HERE: &str = "localhost:5000";
const THERE: &str = "localhost:6000";

/// The files of an OCI layout folder with one manifest and these blobs.
pub fn layout(folder: &Path, manifest: &Manifest, blobs: &[Bytes]) -> BTreeMap<PathBuf, Bytes> {
    let index = index_of(vec![manifest.descriptor()]);
    let mut files = BTreeMap::from([
        (folder.join("oci-layout"), Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#)),
        (folder.join("index.json"), index.bytes().clone()),
    ]);
    for bytes in blobs.iter().chain([manifest.bytes()]) {
        files.insert(folder.join("blobs/sha256").join(Digest::of(bytes).encoded()), bytes.clone());
    }
    files
}

/// Either of the two ways in which a manifest comes to a registry.
#[derive(Debug)]
enum Bring {
    Push(Push),
    Copy(Copy),
}

impl Flow for Bring {
    type Output = ();

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<()> {
        macro_rules! step {
            ($step:expr) => {
                match $step {
                    Step::Done(result) => Step::Done(result.map(|_| ())),
                    Step::Run(job) => Step::Run(job),
                    Step::Abort(id) => Step::Abort(id),
                    Step::Note(event) => Step::Note(event),
                    Step::Wait(until) => Step::Wait(until),
                }
            };
        }
        match self {
            Self::Push(flow) => step!(flow.poll(cx)),
            Self::Copy(flow) => step!(flow.poll(cx)),
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        match self {
            Self::Push(flow) => flow.handle(cx, done),
            Self::Copy(flow) => flow.handle(cx, done),
        }
    }

    fn cancel(&mut self) {
        match self {
            Self::Push(flow) => flow.cancel(),
            Self::Copy(flow) => flow.cancel(),
        }
    }
}

/// Several manifests that refer to the same few, brought to a registry at the same time.
#[derive(Debug)]
pub struct KeepScenario {
    seed: u64,
    here: Registry,
    there: Registry,
    disk: BTreeMap<PathBuf, Bytes>,
    config: Config,
    faults: Faults,
    width: NonZeroUsize,
    subjects: Vec<Manifest>,
    /// By their subjects' numbers; some are brought by a push, some by a copy.
    brought: Vec<(usize, Manifest, Option<PathBuf>)>,
    /// What was on the lists before.
    before: Vec<Vec<Digest>>,
}

impl KeepScenario {
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
        profile.referrers = match dice.below(6) {
            0 => Referrers::Page("<html>"),
            1 => Referrers::Unknown([404, 405, 501][dice.below(3) as usize].try_into().unwrap()),
            2..4 => Referrers::Unknown(http::StatusCode::NOT_FOUND),
            _ => Referrers::Listed,
        };
        profile.delete = Support::Yes;
        profile.tells_subject = dice.below(3) > 0;
        profile.conditional_put = dice.below(2) == 0;
        profile.digests_as_tags = dice.below(6) == 0;
        if dice.below(3) == 0 {
            profile.requires_auth = Some(Auth::bearer_for("/token", THERE, "user", "secret"));
            config.log_in(&THERE.parse().unwrap(), Credential::password("user", "secret"));
        }
        let (mut here, mut there) = (Registry::new(Profile::strict()), Registry::new(profile));
        let mut disk = BTreeMap::new();
        let (mut subjects, mut before, mut brought) = (Vec::new(), Vec::new(), Vec::new());
        for of in 0..1 + dice.below(2) as usize {
            let subject = image(&[format!("image {of}").as_bytes()]);
            let subject = match dice.below(3) {
                // It need not be there.
                0 => subject.manifest(false),
                _ => put(&mut there, "app", Some(&format!("v{of}")), &subject),
            };
            let old: Vec<_> = (0..dice.below(3))
                .map(|at| put_about(&mut there, "app", &subject, "a/old", &format!("old {at}")).referrer())
                .collect();
            if !old.is_empty() {
                put_list(&mut there, "app", subject.digest(), old.clone());
            }
            before.push(old.into_iter().map(|old| old.digest).collect());
            for at in 0..dice.below(5) {
                let content = format!("{of} {at}");
                if dice.below(3) == 0 {
                    let path = PathBuf::from(format!("layout {content}"));
                    let manifest = about(&subject, "a/new", content.as_bytes());
                    let blobs = [Bytes::from_static(b"{}"), content.into()];
                    disk.extend(layout(&path, &manifest, &blobs));
                    brought.push((of, manifest, Some(path)));
                } else {
                    brought.push((of, put_about(&mut here, "app", &subject, "a/new", &content), None));
                }
            }
            subjects.push(subject);
        }
        let mut faults = Faults::default();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(300);
            faults.revoked_tokens = dice.below(30);
        }
        let width = NonZeroUsize::new(1 + dice.below(5) as usize).unwrap();
        Self { seed, here, there, disk, config, faults, width, subjects, brought, before }
    }

    fn flow(&self, manifest: &Manifest, archive: Option<&PathBuf>) -> Bring {
        let to = format!("{THERE}/app@{}", manifest.digest()).parse().unwrap();
        match archive {
            Some(path) => Bring::Push(Push::new(path.as_path(), Destination::Reference(to), PushOptions::default())),
            None => {
                let from = format!("{HERE}/app@{}", manifest.digest()).parse().unwrap();
                Bring::Copy(Copy::new(from, to, CopyOptions::default()))
            }
        }
    }

    /// Runs it and checks what has to hold at its end. How many of them came.
    ///
    /// # Panics
    /// When it doesn't hold.
    pub fn run(&self, show: bool) -> usize {
        let mut world = Simulation::new(self.seed, self.here.clone(), MemoryDisk(self.disk.clone()))
            .with_registry(THERE, self.there.clone())
            .with_faults(self.faults);
        let mut session = Session::new(self.config.clone(), self.seed);
        let flows = self.brought.iter().map(|(_, manifest, archive)| Each::new(self.flow(manifest, archive.as_ref())));
        let ran = world.run(&mut session, Fleet::new(flows.collect::<Vec<_>>(), self.width));
        if show {
            println!("{:#?}\n{:#?}\n{:#?}\n{:?}", self.there.profile(), ran.requests, ran.events, ran.result);
        }
        let results = ran.result.unwrap();
        let mut came: Vec<BTreeSet<Digest>> = self.subjects.iter().map(|_| BTreeSet::new()).collect();
        for ((of, manifest, _), result) in self.brought.iter().zip(&results) {
            match result {
                Ok(()) => _ = came[*of].insert(manifest.digest().clone()),
                Err(why) => {
                    assert!(self.faults != Faults::default(), "nothing went wrong, but: {why}");
                    assert!(matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)), "{why}");
                }
            }
        }
        let there = world.registry_of(THERE);
        check_holdings(there);
        for (of, came) in came.iter().enumerate() {
            self.check_list(there, of, came, &BTreeSet::new());
        }
        // One goes again.
        if let Some((of, gone)) = self.brought.iter().map(|(of, gone, _)| (*of, gone.digest())).next()
            && came[of].contains(gone)
        {
            let named = format!("{THERE}/app@{gone}").parse().unwrap();
            let ran = world.run(&mut session, DeleteManifest::new(&named));
            if ran.result.is_ok() && self.faults == Faults::default() {
                came[of].remove(gone);
                self.check_list(world.registry_of(THERE), of, &came[of], &BTreeSet::from([gone.clone()]));
                check_holdings(world.registry_of(THERE));
                let subject = format!("{THERE}/app@{}", self.subjects[of].digest()).parse().unwrap();
                let found = world.run(&mut session, ListReferrers::new(&subject)).result.unwrap();
                assert!(!found.iter().any(|one| one.digest == *gone));
            }
        }
        results.iter().filter(|result| result.is_ok()).count()
    }

    /// `came`: what was brought, and `gone`: what was deleted again.
    fn check_list(&self, there: &Registry, of: usize, came: &BTreeSet<Digest>, gone: &BTreeSet<Digest>) {
        let (subject, before, profile) = (self.subjects[of].digest(), &self.before[of], there.profile());
        let listed: Vec<Digest> =
            list_of(there, "app", subject).unwrap_or_default().into_iter().map(|one| one.digest).collect();
        let once: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(once.len(), listed.len(), "each once: {listed:?}");
        assert!(listed.starts_with(before), "what others listed stays, in its order: {listed:?} {before:?}");
        let ours: BTreeSet<_> = listed[before.len()..].iter().cloned().collect();
        assert!(ours.is_disjoint(gone), "{ours:?}");
        let keeps_itself = profile.referrers == Referrers::Listed && profile.tells_subject;
        let can_not = profile.digests_as_tags && before.is_empty() && there.manifest("app", subject.as_str()).is_some();
        if keeps_itself || can_not {
            assert_eq!(ours, BTreeSet::new());
        } else if self.faults == Faults::default() {
            assert_eq!(ours, *came);
        } else {
            assert!(ours.is_superset(came), "{came:?} came, but these are listed: {ours:?}");
        }
    }
}
