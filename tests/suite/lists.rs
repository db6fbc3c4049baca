//! Lists: of tags and repositories, page by page, in the simulator, over sockets on all runtimes, and from a real
//! `docker-registry`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on may as well stop")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::num::{NonZeroU32, NonZeroUsize};

use registry_proto::archive::make::{self, MemoryDisk, SampleImage};
use registry_proto::flow::{
    Copy, CopyOptions, Destination, FetchManifest, Fleet, Flow, ListCatalog, ListTags, Push, PushOptions, PutManifest,
};
use registry_proto::job::Completion;
use registry_proto::spec::{Digest, Reference, Repository};
use registry_proto::testing::registry::{Auth, Profile, Registry, Support};
use registry_proto::testing::simulation::{Faults, Ran, Simulation};
use registry_proto::{Config, Context, Credential, Error, Event, Session, Step};
use registry_tests::docker_registry::DockerRegistry;
use registry_tests::memory;
use registry_tests::on_hand_made_runtimes_too;
use registry_tests::runtimes::Runtime;
use registry_tests::server::{self, Answer};
use registry_tokio::serve::Server;

fn repository(host: &str, name: &str) -> Repository {
    format!("{host}/{name}").parse().unwrap()
}

/// Puts an image there that has no layers to speak of.
fn image(registry: &mut Registry, name: &str, tag: &str) -> Digest {
    let image = SampleImage::new(&[], &[format!("{name} {tag}").as_bytes()]);
    registry.insert_image(name, Some(tag), &image)
}

/// A registry with so many tags in `app`, and so many repositories beside it.
fn filled(profile: Profile, tags: usize, repositories: usize) -> Registry {
    let mut registry = Registry::new(profile);
    let digest = image(&mut registry, "app", "t0000");
    let (bytes, kind) = registry.manifest("app", digest.as_str()).unwrap();
    for n in 1..tags {
        registry.insert_manifest("app", Some(&format!("t{n:04}")), bytes.clone(), &kind).unwrap();
    }
    (0..repositories).for_each(|n| registry.create_repository(&format!("many/r{n:04}")));
    registry
}

/// Runs a listing and yields the pages it told, the notices and how it ended.
struct Listed {
    pages: Vec<Vec<String>>,
    notices: Vec<String>,
    result: Result<u64, Error>,
}

impl Listed {
    fn of(result: Result<u64, Error>, events: Vec<Event>) -> Self {
        let (mut pages, mut notices) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Listed { names } => pages.push(names),
                Event::Notice(what) => notices.push(what),
                _ => {}
            }
        }
        Self { pages, notices, result }
    }

    fn on<F: Flow<Output = u64>>(runtime: Runtime, config: Config, flow: F) -> Self {
        let mut events = Vec::new();
        let result = runtime.run_with(config, flow, |event| events.push(event));
        Self::of(result, events)
    }

    fn names(&self) -> Vec<String> {
        self.pages.concat()
    }
}

fn served(registry: Registry) -> (::tokio::runtime::Runtime, Server) {
    let tokio = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = tokio.block_on(Server::bind(([127, 0, 0, 1], 0).into(), registry)).unwrap();
    (tokio, server)
}

fn lists_come_page_by_page(runtime: Runtime) {
    let mut profile = Profile::distribution_3();
    profile.tag_page = Some(100);
    profile.requires_auth = Some(Auth::bearer_for("/token", "registry.test", "me", "secret"));
    let (_tokio, server) = served(filled(profile, 950, 600));
    let host = server.address().to_string();
    let mut config = Config::default();
    config.log_in(&host.parse().unwrap(), Credential::password("me", "secret"));

    let tags = Listed::on(runtime, config.clone(), ListTags::new(repository(&host, "app")));
    assert_eq!((tags.result.as_ref().unwrap(), tags.pages.len()), (&950, 10));
    assert_eq!(tags.names(), server.registry(|registry| registry.tags("app")));

    let catalog = Listed::on(runtime, config.clone(), ListCatalog::new(host.parse().unwrap()));
    assert_eq!((catalog.result.as_ref().unwrap(), catalog.pages.len()), (&601, 7));
    assert_eq!(catalog.names(), server.registry(|registry| registry.repositories()));

    // Asked for so many at a time; for more than the registry gives, it is asked again without a number.
    let tens = ListTags::new(repository(&host, "app")).page(NonZeroU32::new(10).unwrap());
    assert_eq!(Listed::on(runtime, config.clone(), tens).pages.len(), 95);
    let huge = ListCatalog::new(host.parse().unwrap()).page(NonZeroU32::new(5000).unwrap());
    let huge = Listed::on(runtime, config.clone(), huge);
    assert_eq!(huge.result.unwrap(), 601);
    assert!(huge.notices[0].contains("does not give 5000 repositories at a time"), "{:?}", huge.notices);

    let names = runtime.run(config, ListTags::new(repository(&host, "app")).collected()).unwrap();
    assert_eq!(names, tags.names());
}

fn what_is_no_list_is_an_error_that_says_so(runtime: Runtime) {
    let mut profile = Profile::distribution_2_8();
    profile.catalog = Support::NOT_FOUND;
    let (_tokio, server) = served(filled(profile, 3, 0));
    let host = server.address().to_string();
    let none = Listed::on(runtime, Config::default(), ListTags::new(repository(&host, "nobody/home")));
    let why = none.result.unwrap_err().to_string();
    assert!(why.contains("/v2/nobody/home/tags/list") && why.contains("NAME_UNKNOWN"), "{why}");
    let none = Listed::on(runtime, Config::default(), ListCatalog::new(host.parse().unwrap()));
    let why = none.result.unwrap_err().to_string();
    assert!(why.contains("404") && why.contains("does not list its repositories"), "{why}");

    // Logged in, but the token does not reach as far as the catalog.
    let closed = server::Server::start(Registry::new(Profile::distribution_3()), |asked| {
        let host = asked.header("host").to_owned();
        match asked.head.uri.path() {
            "/token" => Answer::raw(server::reply("200 OK", &[], r#"{"token":"t"}"#)),
            _ => Answer::raw(server::reply(
                "401 Unauthorized",
                &[&format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",scope=\"registry:catalog:*\"")],
                "",
            )),
        }
    });
    let flow = || ListCatalog::new(closed.host().parse().unwrap());
    let why = Listed::on(runtime, Config::default(), flow()).result.unwrap_err().to_string();
    assert!(why.contains("log in first"), "{why}");
    let mut config = Config::default();
    config.log_in(&closed.host().parse().unwrap(), Credential::password("user", "secret"));
    let why = Listed::on(runtime, config, flow()).result.unwrap_err().to_string();
    assert!(why.contains("does not list its repositories, or not for this account"), "{why}");
}

/// A server whose list of tags is what the script says of a page's number: the body's tags, and the `Link`.
fn scripted(page: impl Fn(u64) -> (String, String) + Send + Sync + 'static) -> server::Server {
    server::Server::start(Registry::new(Profile::distribution_3()), move |asked| {
        let (tags, link) = page(asked.number);
        Answer::raw(server::reply("200 OK", &[&format!("Link: {link}")], &format!(r#"{{"name":"app","tags":{tags}}}"#)))
    })
}

fn lists_end_and_stay_where_they_are(runtime: Runtime) {
    let elsewhere = server::Server::start(Registry::new(Profile::distribution_3()), |_| Answer::registry());
    let link = format!("<http://{}/v2/app/tags/list?last=a>; rel=\"next\"", elsewhere.host());
    for (says, most, server) in [
        ("leads to another origin", 1, scripted(move |_| (r#"["a"]"#.into(), link.clone()))),
        ("leads back", 2, scripted(|n| (format!("[\"a{n}\"]"), "<list?last=a>; rel=next".into()))),
        ("does not get ahead", 2, scripted(|n| (r#"["a"]"#.into(), format!("<list?last={n}>; rel=next")))),
        ("20 pages, which is the limit", 20, scripted(|n| (format!("[\"a{n}\"]"), format!("</v2/?{n}>; rel=next")))),
    ] {
        let mut config = Config::default();
        config.limits.pages = 20;
        let listed = Listed::on(runtime, config, ListTags::new(repository(&server.host(), "app")));
        let why = listed.result.as_ref().unwrap_err();
        assert!(matches!(why, Error::Protocol { .. }) && why.to_string().contains(says), "{says}: {why}");
        assert_eq!(server.log().len(), most, "{says}");
        assert_eq!(listed.pages.len(), most, "{says}: what came is told");
    }
    assert!(elsewhere.log().is_empty(), "nothing is asked of another origin");

    let odd =
        scripted(|n| (if n == 0 { r#"["","v1","sha256:ab",null]"# } else { "null" }.into(), "<?x>; rel=next".into()));
    let listed = Listed::on(runtime, Config::default(), ListTags::new(repository(&odd.host(), "app")));
    assert_eq!((listed.result.as_ref().unwrap(), listed.names()), (&1, vec!["v1".to_owned()]));
    assert!(listed.notices[0].contains("left out of the list: 3"), "{:?}", listed.notices);

    let mut config = Config::default();
    config.limits.entries = 50;
    let long = scripted(|n| (format!("[\"a{n}\",\"b{n}\"]"), format!("<?{n}>; rel=next")));
    let why = runtime.run(config, ListTags::new(repository(&long.host(), "app")).collected()).unwrap_err();
    assert!(why.to_string().contains("more than 50 tags"), "{why}");
}

/// 600 repositories in a real registry, and 2000 tags in one of them: all of them, once each.
#[test]
fn a_real_registry_is_listed_completely() {
    let registry = DockerRegistry::of_small_things();
    let host = registry.host();
    let names: BTreeSet<String> = (0..600).map(|n| format!("many/r{n:03}")).collect();
    let tags: BTreeSet<String> = (0..2000).map(|n| format!("v{n}")).collect();
    let one = repository(&host, "many/r000");
    let mut config = Config::default();
    let width = NonZeroUsize::new(16).unwrap();
    config.requests_per_registry = width;
    // The smallest image there is: no layers. It is pushed once, mounted everywhere, and its manifest put again and again.
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    std::fs::write(&archive, make::docker_save_legacy(&[SampleImage::new(&["many/r000:v0"], &[])])).unwrap();
    let push = Push::new(archive.as_path(), Destination::Below(host.clone()), PushOptions::default());
    let pushed = Runtime::Tokio.run(config.clone(), push).unwrap().references[0].to_reference();
    let copy = |name| {
        let to = Reference::new(repository(&host, name)).with_tag("v0".parse().unwrap());
        Copy::new(pushed.clone(), to, CopyOptions::default())
    };
    Runtime::Tokio.run(config.clone(), Fleet::new(names.iter().skip(1).map(|name| copy(name)), width)).unwrap();
    let manifest = Runtime::Tokio.run(config.clone(), FetchManifest::new(&pushed)).unwrap();
    let put =
        |tag: &String| PutManifest::new(Reference::new(one.clone()).with_tag(tag.parse().unwrap()), manifest.clone());
    Runtime::Tokio.run(config, Fleet::new(tags.iter().map(put), width)).unwrap();

    for runtime in Runtime::ALL {
        let listed = Listed::on(runtime, Config::default(), ListTags::new(one.clone()));
        assert_eq!(listed.result.as_ref().unwrap(), &2000);
        assert_eq!(listed.names().into_iter().collect::<BTreeSet<_>>(), tags);
        let catalog = Listed::on(runtime, Config::default(), ListCatalog::new(host.parse().unwrap()));
        assert_eq!((catalog.result.as_ref().unwrap(), catalog.pages.len()), (&600, 6), "a hundred a page");
        assert_eq!(catalog.names().into_iter().collect::<BTreeSet<_>>(), names);
    }
}

// ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A flow, and how many names it still holds after each page that it told.
#[derive(Debug)]
struct Watched<F> {
    flow: F,
    held: Vec<usize>,
}

impl<F: Flow + Debug> Flow for Watched<F> {
    type Output = Vec<usize>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Step<Vec<usize>> {
        match self.flow.poll(cx) {
            Step::Done(result) => Step::Done(result.map(|_| std::mem::take(&mut self.held))),
            Step::Note(event) => {
                if matches!(event, Event::Listed { .. }) {
                    self.held.push(format!("{:?}", self.flow).matches("name-").count());
                }
                Step::Note(event)
            }
            Step::Run(job) => Step::Run(job),
            Step::Abort(job) => Step::Abort(job),
            Step::Wait(until) => Step::Wait(until),
        }
    }

    fn handle(&mut self, cx: &mut Context<'_>, done: Completion) -> Result<(), Completion> {
        self.flow.handle(cx, done)
    }

    fn cancel(&mut self) {
        self.flow.cancel();
    }
}

#[test]
fn what_was_told_is_not_kept() {
    let mut registry = Registry::new(Profile { tag_page: Some(50), catalog_page: 50, ..Profile::distribution_3() });
    let digest = image(&mut registry, "app", "name-first");
    let (bytes, kind) = registry.manifest("app", digest.as_str()).unwrap();
    for n in 0..4999 {
        registry.insert_manifest("app", Some(&format!("name-{n}")), bytes.clone(), &kind).unwrap();
        registry.create_repository(&format!("name-{n}"));
    }
    let mut world = Simulation::new(1, registry, MemoryDisk::default());
    let mut session = Session::new(Config::default(), 1);
    let watched = |held: Vec<usize>| {
        assert_eq!(held.len(), 100, "pages");
        // The URL of the next page names the last name of this one, and an exchange has its URL in three places.
        assert!(held.iter().all(|names| *names <= 3), "names that are still held after each page: {held:?}");
    };
    let flow = ListTags::new(repository(HOST, "app"));
    watched(world.run(&mut session, Watched { flow, held: Vec::new() }).result.unwrap());
    let flow = ListCatalog::new(HOST.parse().unwrap()).page(NonZeroU32::new(50).unwrap());
    watched(world.run(&mut session, Watched { flow, held: Vec::new() }).result.unwrap());
}

/// A list of 100 MB: two million names in pages of ten thousand.
fn a_list_of_any_length_takes_the_memory_of_a_page(runtime: Runtime) {
    const PAGES: u64 = 200;
    const NAMES: u64 = 10_000;
    let name = |n: u64| format!("a-tag-as-long-as-those-that-machines-make-{n:08}");
    if let Some(host) = memory::task() {
        let mut seen = 0;
        let flow = ListTags::new(repository(&host, "app"));
        let count = runtime.run_with(Config::default(), flow, |event| {
            if let Event::Listed { names } = event {
                assert_eq!(names[0], name(seen));
                seen += names.len() as u64;
            }
        });
        assert_eq!((count.unwrap(), seen), (PAGES * NAMES, PAGES * NAMES));
        memory::report();
        return;
    }
    let server = scripted(move |page| {
        let names: Vec<String> = (page * NAMES..(page + 1) * NAMES).map(|n| format!("\"{}\"", name(n))).collect();
        let rel = if page + 1 < PAGES { "next" } else { "last" };
        (format!("[{}]", names.join(",")), format!("<?last={page}>; rel={rel}"))
    });
    let needed = memory::measure(&server.host());
    println!("{runtime}: {} KiB at most", needed.peak);
    assert!(needed.peak < 32 << 10, "{runtime}: {} KiB", needed.peak);
}

on_hand_made_runtimes_too!(
    lists_come_page_by_page,
    what_is_no_list_is_an_error_that_says_so,
    lists_end_and_stay_where_they_are,
    a_list_of_any_length_takes_the_memory_of_a_page,
);

// ── under faults ─────────────────────────────────────────────────────────────────────────────────────────────────────

const HOST: &str = "localhost:5000";

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// A world in which much goes wrong, and a configuration that can live with it.
fn world(seed: u64, mut registry: Registry) -> (Simulation, Session) {
    let mut config = Config::default();
    config.retries = 12;
    if seed.is_multiple_of(3) {
        registry.profile_mut().requires_auth =
            Some(Auth::bearer_for("http://localhost:5001/token", "registry", "me", "secret"));
        config.log_in(&HOST.parse().unwrap(), Credential::password("me", "secret"));
    }
    let mut faults = Faults::default();
    if !seed.is_multiple_of(10) {
        faults.requests = seed * 37 % 400;
        faults.revoked_tokens = seed * 11 % 30;
    }
    let world = Simulation::new(seed, registry, MemoryDisk::default()).with_faults(faults);
    (world, Session::new(config, seed))
}

/// Whatever goes wrong in a world of faults has a cause that the world can have.
fn check_failure<T>(seed: u64, ran: &Ran<T>) {
    if let Err(why) = &ran.result {
        assert!(!seed.is_multiple_of(10), "seed {seed}: nothing went wrong, but: {why}");
        assert!(
            matches!(why, Error::Transport { .. } | Error::Registry(_) | Error::Denied(_)),
            "seed {seed}: an error that nothing here can cause: {why}"
        );
    }
}

#[test]
fn lists_are_whole_or_end_with_a_clear_error() {
    let mut whole = 0;
    for seed in 0..seeds() / 10 {
        let mut profile = if seed.is_multiple_of(2) { Profile::distribution_3() } else { Profile::strict() };
        (profile.tag_page, profile.catalog_page) = (Some(7), 9);
        let (mut world, mut session) = world(seed, filled(profile, 50, 40));
        let ran = world.run(&mut session, ListTags::new(repository(HOST, "app")));
        check_failure(seed, &ran);
        let all = world.registry().tags("app");
        let listed = Listed::of(ran.result, ran.events);
        // Also of a list that broke off: each name once, and in the registry's order.
        assert_eq!(listed.names()[..], all[..listed.names().len()], "seed {seed}");
        if let Ok(count) = listed.result {
            assert_eq!((count, listed.names().len()), (50, 50), "seed {seed}");
            whole += 1;
        }
        let ran = world.run(&mut session, ListCatalog::new(HOST.parse().unwrap()).collected());
        check_failure(seed, &ran);
        if let Ok(names) = ran.result {
            assert_eq!(names, world.registry().repositories(), "seed {seed}");
        }
    }
    assert!(whole > seeds() / 10 * 8 / 10, "only {whole} lists came through");
}
