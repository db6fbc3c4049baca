//! Flows against peers that answer anything at all.
//!
//! An input is a script: two bytes choose the flow and how the registries and the client behave, and the rest says, job by job, what
//! becomes of it (see [`script`]). Registries in memory give honest answers, so that a script comes far into a flow, and the script
//! bends, swaps, cuts or makes up whichever it likes. When it is used up, everything is answered honestly, or nothing is: the flow
//! has to come to an end.

mod check;
mod disk;
mod fixture;
mod script;
mod world;

use std::path::Path;

use registry_proto::archive::ArchiveFormat;
use registry_proto::flow::{
    Authenticate, Copy, CopyOptions, DeleteManifest, DeleteRepository, Destination, Each, FetchBlob, FetchConfig,
    Inspect, InspectMany, ListCatalog, ListReferrers, ListTags, Pinging, Platforms, Preview, Pull, PullOptions, Push,
    PushOptions, PutManifest, ReadBlob, Resolve, Retag, SaveBlob, Untag, VerifyArchive,
};
use registry_proto::spec::{Platform, Reference, Repository};

use fixture::Fixture;
use script::Script;
use world::World;

/// A script, as bytes.
pub fn flow(data: &[u8]) {
    if fixture::knows_secrets(data) {
        return;
    }
    let mut script = Script::new(data);
    let (kind, choice) = (script.byte(), script.byte());
    fixture::with(|fixture| start(World::new(fixture, script), fixture, kind, choice));
}

fn start(mut world: World<'_>, fixture: &Fixture, kind: u8, choice: u8) {
    let reference = |text: &str| -> Reference { text.parse().expect("it is a reference") };
    let repository: Repository = "r.example/app".parse().expect("it is a repository");
    let platform: Platform = "linux/arm64".parse().expect("it is a platform");
    let tag = ["v1", "v2", "none"][usize::from(choice % 3)];
    let app = reference(&format!("r.example/app:{tag}"));
    let by_digest = repository_reference(&repository, fixture);
    match kind % 25 {
        0 | 1 => {
            let mut options = PullOptions::default();
            (options.format, options.platforms) = match choice / 3 % 8 {
                0 => (ArchiveFormat::Docker, Platforms::Only(platform)),
                1 => (ArchiveFormat::Oci, Platforms::All),
                2 => (ArchiveFormat::Oci, Platforms::Only(platform)),
                3 => (ArchiveFormat::OciFolder, Platforms::All),
                4 => (ArchiveFormat::OciFolder, Platforms::Only(platform)),
                5 => (ArchiveFormat::DockerAndOci, Platforms::Only(platform)),
                6 => (ArchiveFormat::DockerAndOci, Platforms::All),
                _ => (ArchiveFormat::Oci, Platforms::ThisMachine),
            };
            let more = (kind % 25 == 1).then_some(by_digest);
            let flow = Pull::new([app].into_iter().chain(more), disk::OUT, options);
            world.run(flow);
        }
        2 | 3 => {
            let to = match choice % 3 {
                0 => Destination::Reference(reference("s.example/new:v9")),
                1 => Destination::OriginalTags,
                _ => Destination::Below("s.example/below".to_owned()),
            };
            let path = disk::ARCHIVES[usize::from(choice / 3) % disk::ARCHIVES.len()];
            world.run(Push::new(Path::new(path), to, PushOptions::default()));
        }
        4 => world.run(Preview::new(Path::new(disk::ARCHIVES[0]), Destination::OriginalTags, PushOptions::default())),
        5..=7 => {
            let mut options = CopyOptions::default();
            options.platform = (choice & 64 != 0).then_some(platform);
            options.referrers = choice & 128 != 0;
            let (from, to) = match (kind % 25, choice / 3 % 3) {
                (7, _) => {
                    options.all_tags = true;
                    (Reference::new(repository), reference("s.example/copy"))
                }
                (5, 0) => (app, reference("r.example/mounted:v1")),
                (5, 1) => (by_digest, reference("r.example/app:v3")),
                _ => (app, reference("s.example/copy:v1")),
            };
            world.run(Copy::new(from, to, options));
        }
        8 => world.run(DeleteManifest::new(&app)),
        9 => world.run(DeleteRepository::new(repository)),
        10 => world.run(Untag::new(repository, "v1".parse().expect("it is a tag"))),
        11 => world.run(ListTags::new(repository).collected()),
        12 => world.run(ListCatalog::new(repository.registry().clone()).collected()),
        13 => world.run(ListReferrers::new(&by_digest)),
        14 => world.run(Inspect::new(app)),
        15 => world.run(InspectMany::new([app, by_digest, reference("s.example/app:v1")])),
        16 => world.run(FetchConfig::new(app, platform)),
        17 => world.run(Resolve::new(app)),
        18 => world.run(FetchBlob::new(repository, fixture.layer.clone())),
        19 => world.run(ReadBlob::new(repository, fixture.layer.digest.clone())),
        20 => world.run(SaveBlob::new(repository, fixture.layer.digest.clone(), disk::OUT)),
        21 => world.run(PutManifest::new(app, fixture.signature.clone())),
        22 => world.run(Retag::new(&app, ["v7", "v8"].map(|tag| tag.parse().expect("it is a tag")))),
        23 => world.run(Each::new(Authenticate::new(repository.registry().clone()))),
        _ if choice & 1 == 0 => world.run(Pinging::new(repository.registry().clone())),
        _ => world.run(VerifyArchive::new(Path::new(disk::ARCHIVES[usize::from(choice / 3) % disk::ARCHIVES.len()]))),
    }
}

fn repository_reference(repository: &Repository, fixture: &Fixture) -> Reference {
    Reference::new(repository.clone()).with_digest(fixture.root.clone())
}
