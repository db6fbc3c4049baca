//! Copies of more than an image, made up from a seed: all tags of a repository, what refers to the images, and what refers to
//! that.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};

use registry_proto::archive::make::MemoryDisk;
use registry_proto::flow::{Copied, Copy, CopyOptions, ListReferrers};
use registry_proto::spec::{Digest, Manifest, Reference, Tag};
use registry_proto::testing::registry::{Auth, Profile, Referrers, Registry};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Credential, Error, Session};

use crate::copies::{HERE, THERE, image};
use crate::referrers::{put_about, put_list};
use crate::scenario::{Dice, check_holdings, check_progress};

/// Everything about one simulated copy.
#[derive(Debug)]
pub struct MirrorScenario {
    seed: u64,
    registries: [Registry; 2],
    config: Config,
    faults: Faults,
    source: Reference,
    destination: Reference,
    options: CopyOptions,
    /// Tags that lead to images, and where to.
    tags: BTreeMap<String, Digest>,
    /// What refers to each manifest.
    referrers: BTreeMap<Digest, Vec<Digest>>,
    /// What can't be copied.
    odd: BTreeSet<String>,
}

const FROM: &str = "from/here";
const TO: &str = "to/there";

impl MirrorScenario {
    /// The scenario of a seed. Every tenth has no misfortune at all: it has to succeed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut config = Config::default();
        config.transfers = NonZeroUsize::new(1 + dice.below(6) as usize).unwrap();
        config.requests_per_registry = NonZeroUsize::new(1 + dice.below(30) as usize).unwrap();
        config.retries = 12;
        config.piece = NonZeroU64::new(128 + dice.below(4000)).unwrap();
        config.limits.chunk_min = 16;
        let mut registries = [HERE, THERE].map(|host| {
            let mut profile = match dice.below(3) {
                0 => Profile::distribution_2_8(),
                1 => Profile::distribution_3(),
                _ => Profile::strict(),
            };
            profile.referrers = match dice.below(4) {
                0 => Referrers::Unknown(http::StatusCode::NOT_FOUND),
                1 => Referrers::Page("<html>"),
                _ => Referrers::Listed,
            };
            profile.referrers_page = (dice.below(3) == 0).then_some(1);
            profile.tag_page = profile.paginates_tags.then(|| 1 + dice.below(20) as usize);
            profile.conditional_put = dice.below(2) == 0;
            if dice.below(3) == 0 {
                profile.requires_auth = Some(Auth::bearer_for("/token", host, "user", "secret"));
                config.log_in(&host.parse().unwrap(), Credential::password("user", "secret"));
            }
            Registry::new(profile)
        });
        let here = &mut registries[0];
        let mut tags = BTreeMap::new();
        for at in 0..1 + dice.below(25) {
            let tag = format!("v{at}");
            // Most lead to what another one leads to: so it is with tags.
            let digest = match tags.values().nth(dice.below(20) as usize).cloned() {
                Some(same) if dice.below(3) > 0 => {
                    let (bytes, media_type) = here.manifest(FROM, Digest::as_str(&same)).unwrap();
                    here.insert_manifest(FROM, Some(&tag), bytes, &media_type).unwrap()
                }
                _ => image(&mut dice, here, &tag),
            };
            tags.insert(tag, digest);
        }
        let referrers = refer(&mut dice, here);
        let mut options = CopyOptions::default();
        options.all_tags = dice.below(2) == 0;
        options.referrers = dice.below(3) > 0;
        let mut odd = BTreeSet::new();
        if options.all_tags && dice.below(4) == 0 {
            here.insert_manifest(FROM, Some("odd"), "{\"x\":1}".into(), "application/vnd.example+json").unwrap();
            odd.insert("odd".to_owned());
        }
        if options.all_tags && dice.below(4) == 0 {
            // It looks like the tag of a list, and is an ordinary one.
            let like = Tag::of_referrers(&Digest::of(b"whoever")).to_string();
            let (bytes, media_type) = here.manifest(FROM, "v0").unwrap();
            let digest = here.insert_manifest(FROM, Some(&like), bytes, &media_type).unwrap();
            tags.insert(like, digest);
        }
        let (source, destination) = match options.all_tags {
            true => (format!("{HERE}/{FROM}"), format!("{THERE}/{TO}")),
            false => (format!("{HERE}/{FROM}:v0"), format!("{THERE}/{TO}:v0")),
        };
        // Sometimes it goes to another repository of the same registry.
        let destination = if dice.below(4) == 0 { destination.replace(THERE, HERE) } else { destination };
        let mut faults = Faults::default();
        if !seed.is_multiple_of(10) {
            faults.requests = dice.below(200);
            faults.lost_sessions = dice.below(10);
            faults.revoked_tokens = dice.below(30);
        }
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Self { seed, registries, config, faults, source, destination, options, tags, referrers, odd }
    }

    /// Runs it and checks what has to hold at its end. Whether it succeeded.
    ///
    /// # Panics
    /// When it doesn't hold.
    pub fn run(&self, show: bool) -> bool {
        let [here, there] = self.registries.clone();
        let world = Simulation::new(self.seed, here, MemoryDisk::default());
        let mut world = world.with_registry(THERE, there).with_faults(self.faults);
        let mut session = Session::new(self.config.clone(), self.seed);
        let copy = Copy::new(self.source.clone(), self.destination.clone(), self.options.clone());
        let ran = world.run(&mut session, copy);
        if show {
            println!("{:?} {:#?}\n{:#?}\n{:?}", self.options, ran.requests, ran.events, ran.result);
        }
        self.check(&mut world, &ran);
        if ran.result.is_ok() && self.faults == Faults::default() {
            self.check_lists(&mut world);
            // A second time nothing is moved.
            let copy = Copy::new(self.source.clone(), self.destination.clone(), self.options.clone());
            let again = world.run(&mut Session::new(self.config.clone(), 1), copy);
            assert_eq!(again.result.unwrap().totals, registry_proto::flow::Totals::default());
            let writes = |line: &str| !line.starts_with("GET ") && !line.starts_with("HEAD ");
            let written: Vec<_> = again.requests.iter().filter(|asked| writes(&asked.line)).collect();
            assert!(written.is_empty(), "{written:#?}");
        }
        ran.result.is_ok()
    }

    fn check(&self, world: &mut Simulation, ran: &Ran<Copied>) {
        for host in [HERE, THERE] {
            check_holdings_but(world.registry_of(host), &self.odd);
        }
        check_progress(&ran.events);
        let (most, limit) = (ran.most_sending, self.config.transfers.get());
        assert!(most <= limit, "{most} blobs sent at once, {limit} allowed");
        let (most, limit) = (ran.most_requests, self.config.requests_per_registry.get());
        assert!(most <= limit, "{most} requests under way, {limit} allowed");
        let copied = match &ran.result {
            Ok(copied) => copied,
            Err(why) => {
                assert!(self.faults != Faults::default(), "nothing went wrong, but: {why}");
                assert!(matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)), "{why}");
                return;
            }
        };
        let there = world.registry_of(self.destination.repository().registry().as_str());
        let wanted: BTreeMap<String, Digest> = self
            .tags
            .iter()
            .filter(|(tag, _)| self.options.all_tags || *tag == "v0")
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        let led: BTreeMap<String, Digest> =
            copied.references.iter().map(|one| (one.reference.to_string(), one.digest.clone())).collect();
        assert_eq!(led, wanted);
        for (tag, digest) in &wanted {
            let (bytes, _) = there.manifest(TO, tag).expect("it was copied");
            assert_eq!(Digest::of(&bytes), *digest, "{tag}");
        }
        let left_out: BTreeSet<String> =
            copied.left_out.iter().map(|one| one.reference.tag().unwrap().to_string()).collect();
        assert_eq!(left_out, self.odd);
        let expected = self.expected();
        assert_eq!(copied.referrers.iter().cloned().collect::<BTreeSet<_>>(), expected);
        for digest in &expected {
            assert!(there.manifest(TO, digest.as_str()).is_some(), "{digest}");
        }
        if self.faults == Faults::default() {
            for ((repository, digest), times) in &there.ledger().commits {
                assert!(repository != TO || *times == 1, "{digest} was brought {times} times");
            }
        }
    }

    /// What refers to what is copied and should have gone along.
    fn expected(&self) -> BTreeSet<Digest> {
        let lists = self.registries[0].profile().referrers != Referrers::Listed;
        if self.options.all_tags && lists && !self.options.referrers {
            // Each of their lists is a tag.
            return self.referrers.values().flatten().cloned().collect();
        }
        if !self.options.referrers {
            return BTreeSet::new();
        }
        let mut expected = BTreeSet::new();
        let tagged = self.tags.iter().filter(|(tag, _)| self.options.all_tags || *tag == "v0");
        let mut about: Vec<Digest> = tagged.flat_map(|(_, digest)| below(&self.registries[0], digest)).collect();
        if self.options.all_tags && lists {
            about.extend(self.referrers.keys().cloned());
        }
        while let Some(subject) = about.pop() {
            for one in self.referrers.get(&subject).into_iter().flatten() {
                if expected.insert(one.clone()) {
                    about.push(one.clone());
                }
            }
        }
        expected
    }

    /// Whoever asks the destination gets to hear of each.
    fn check_lists(&self, world: &mut Simulation) {
        let expected = self.expected();
        let mut session = Session::new(self.config.clone(), 1);
        for (subject, referrers) in &self.referrers {
            let about = Reference::new(self.destination.repository().clone()).with_digest(subject.clone());
            let found = world.run(&mut session, ListReferrers::new(&about)).result.unwrap();
            let found: BTreeSet<_> = found.into_iter().map(|one| one.digest).collect();
            assert_eq!(found, referrers.iter().filter(|one| expected.contains(*one)).cloned().collect(), "{subject}");
        }
    }
}

/// Of the odd ones nobody can tell what belongs to them.
fn check_holdings_but(registry: &mut Registry, odd: &BTreeSet<String>) {
    let mut registry = registry.clone();
    for tag in odd {
        registry.remove_tag(FROM, tag);
    }
    check_holdings(&registry);
}

/// A manifest and all below it.
fn below(registry: &Registry, digest: &Digest) -> Vec<Digest> {
    let (bytes, media_type) = registry.manifest(FROM, digest.as_str()).unwrap();
    let manifest = Manifest::parse(bytes, Some(&media_type), None).unwrap();
    let children = manifest.index().into_iter().flat_map(|index| &index.manifests);
    children.flat_map(|child| below(registry, &child.digest)).chain([digest.clone()]).collect()
}

/// Says something about some of what a registry has, and about what was said; with lists where the registry makes none.
fn refer(dice: &mut Dice, registry: &mut Registry) -> BTreeMap<Digest, Vec<Digest>> {
    let mut subjects: Vec<Digest> = registry
        .tags(FROM)
        .iter()
        .map(|tag| {
            let (bytes, _) = registry.manifest(FROM, tag).unwrap();
            Digest::of(&bytes)
        })
        .flat_map(|digest| below(registry, &digest))
        .collect();
    subjects.sort();
    subjects.dedup();
    let mut referrers: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
    let mut listed: BTreeMap<Digest, Vec<_>> = BTreeMap::new();
    for at in 0..dice.below(6) {
        let subject = subjects[dice.below(subjects.len() as u64) as usize].clone();
        let (bytes, media_type) = registry.manifest(FROM, subject.as_str()).unwrap();
        let manifest = Manifest::parse(bytes, Some(&media_type), None).unwrap();
        let referrer = put_about(registry, FROM, &manifest, "a/b", &format!("number {at}"));
        referrers.entry(subject.clone()).or_default().push(referrer.digest().clone());
        listed.entry(subject).or_default().push(referrer.referrer());
        subjects.push(referrer.digest().clone());
    }
    if registry.profile().referrers != Referrers::Listed {
        for (subject, mut list) in listed {
            if dice.below(3) == 0 {
                // On the list, but about something else.
                let (bytes, media_type) = registry.manifest(FROM, subjects[0].as_str()).unwrap();
                let other = Manifest::parse(bytes, Some(&media_type), None).unwrap();
                if !list.iter().any(|one| one.digest == *other.digest()) {
                    list.push(other.descriptor());
                }
            }
            put_list(registry, FROM, &subject, list);
        }
    }
    referrers
}
