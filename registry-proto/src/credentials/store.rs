//! Finding, keeping and forgetting credentials.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::auth_file::AuthFile;
use super::helper::{Action, Helper, Ran};
use super::key::canonical;
use super::places::Place;
use crate::secret::Credential;
use crate::spec::{Registry, RepositoryName};

/// What the operating system is needed for.
///
/// An implementation owes: files of a megabyte at most, helpers' output of a megabyte at most and within a limit of time,
/// after which they are killed; and that neither shows up in a log.
pub trait System {
    /// A file's content; `None` when it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a file's content at once, or creates the file and its folders; nobody but its owner may read it.
    ///
    /// # Errors
    /// Whatever the file system says; the file is what it was then.
    fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Runs [`Helper::program`] with the action as its only argument, without a shell, and this on its standard input.
    ///
    /// # Errors
    /// When it can't be run, takes too long or says too much.
    fn run(&mut self, helper: &Helper, action: Action, input: &[u8]) -> io::Result<Ran>;
}

/// A credential that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// What it is for, to be [inserted](super::Credentials::insert) under: a registry, or a part of one.
    pub key: String,
    /// The credential.
    pub credential: Credential,
    /// Where it was.
    pub stored: Stored,
}

/// Where a credential is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In this file (or variable) itself.
    In(Place),
    /// By a helper that this file names.
    By(Helper, Place),
}

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::In(place) => place.fmt(f),
            Self::By(helper, _) => f.write_str(&helper.program()),
        }
    }
}

/// Why credentials could not be found, kept or forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file can't be read or written.
    #[error("{place}: {why}")]
    File {
        /// Which.
        place: Place,
        /// What is wrong with it.
        why: String,
    },
    /// A helper can't be run, or failed.
    #[error("{program}, which {place} names for {registry}: {why}")]
    Helper {
        /// The program.
        program: String,
        /// Who named it.
        place: Place,
        /// For which registry.
        registry: Registry,
        /// What went wrong.
        why: String,
    },
    /// There is no file that it could be kept in.
    #[error("there is nowhere to keep credentials: name a file, or set HOME")]
    Nowhere,
}

/// Looks for the credential of a repository, or of a registry as a whole: in each place its helper first, then the file itself.
/// The first that is found counts.
///
/// ```
/// # use registry_proto::credentials::{Action, Helper, Ran, System};
/// # use std::{collections::BTreeMap, io, path::{Path, PathBuf}};
/// # #[derive(Default)]
/// # struct Memory(BTreeMap<PathBuf, Vec<u8>>);
/// # impl System for Memory {
/// #     fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> { Ok(self.0.get(path).cloned()) }
/// #     fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
/// #         self.0.insert(path.to_owned(), content.to_owned());
/// #         Ok(())
/// #     }
/// #     fn run(&mut self, _: &Helper, _: Action, _: &[u8]) -> io::Result<Ran> { Err(io::ErrorKind::NotFound.into()) }
/// # }
/// use registry_proto::credentials::{Place, look_up};
/// use registry_proto::{Config, Credential};
///
/// # let mut system = Memory::default();
/// # let auth = br#"{"auths": {"registry.example.org": {"auth": "dXNlcjpodW50ZXIy"}}}"#;
/// # system.write(Path::new("config.json"), auth)?;
/// let places = [Place::File("config.json".into())]; // `places` says where people have them
/// let registry = "registry.example.org".parse()?;
/// let found = look_up(&mut system, &places, &registry, None)?.expect("there is one");
/// assert_eq!(found.credential, Credential::password("user", "hunter2"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When a place is there but can't be read, or was [named](Place::Named) and is not there, or its helper fails: going on as nobody, or with somebody else's credential, would
/// only lead to a stranger error later. A helper that has nothing is no error.
pub fn look_up(
    system: &mut impl System,
    places: &[Place],
    registry: &Registry,
    repository: Option<&RepositoryName>,
) -> Result<Option<Found>, StoreError> {
    for place in places {
        let Some(file) = read(system, place)? else {
            if let Place::Named(_) = place {
                let why = "there is no such file, and it is the one that was named".to_owned();
                return Err(StoreError::File { place: place.clone(), why });
            }
            continue;
        };
        if let Some(helper) = helper(&file, place, registry)?
            && let Some(credential) = ask(system, &helper, place, registry)?
        {
            let key = canonical(registry.as_str());
            return Ok(Some(Found { key, credential, stored: Stored::By(helper, place.clone()) }));
        }
        let found = file.find(registry, repository).map_err(|why| StoreError::File { place: place.clone(), why })?;
        if let Some((key, credential)) = found {
            return Ok(Some(Found { key, credential, stored: Stored::In(place.clone()) }));
        }
    }
    Ok(None)
}

/// Keeps a credential for a registry where [`look_up`] will find it first: by a helper if one is configured, else in the file.
///
/// Where the registry is known already, what is there is replaced. Else it goes to the last file, which is Docker's unless the
/// user named one.
///
/// ```
/// # use registry_proto::credentials::{Action, Helper, Ran, System};
/// # use std::{collections::BTreeMap, io, path::{Path, PathBuf}};
/// # #[derive(Default)]
/// # struct Memory(BTreeMap<PathBuf, Vec<u8>>);
/// # impl System for Memory {
/// #     fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> { Ok(self.0.get(path).cloned()) }
/// #     fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
/// #         self.0.insert(path.to_owned(), content.to_owned());
/// #         Ok(())
/// #     }
/// #     fn run(&mut self, _: &Helper, _: Action, _: &[u8]) -> io::Result<Ran> { Err(io::ErrorKind::NotFound.into()) }
/// # }
/// use registry_proto::Credential;
/// use registry_proto::credentials::{Place, log_in, log_out, look_up};
///
/// # let mut system = Memory::default();
/// let places = [Place::File("config.json".into())];
/// let registry = "registry.example.org".parse()?;
/// log_in(&mut system, &places, &registry, &Credential::password("user", "hunter2"))?;
/// assert!(look_up(&mut system, &places, &registry, None)?.is_some());
/// log_out(&mut system, &places, &registry)?;
/// assert!(look_up(&mut system, &places, &registry, None)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When it can't be kept; nothing has changed then.
pub fn log_in(
    system: &mut impl System,
    places: &[Place],
    registry: &Registry,
    credential: &Credential,
) -> Result<Stored, StoreError> {
    let (place, path, mut file) = file_for(system, places, registry)?;
    if let Some(helper) = helper(&file, &place, registry)? {
        let trouble = |why: String| trouble(&helper, &place, registry, why);
        let server = registry.credential_key();
        let input = Helper::to_store(&server, credential)
            .ok_or_else(|| trouble("helpers keep no tokens for a registry itself".to_owned()))?;
        let ran = run(system, &helper, Action::Store, &input).map_err(trouble)?;
        ran.done().map_err(trouble)?;
        // Docker lists what helpers have by entries with nothing in them; and a password in the file would be one too many.
        let before = file.clone();
        file.mark(registry);
        if file != before {
            write(system, &place, &path, &file)?;
        }
        return Ok(Stored::By(helper, place));
    }
    file.set(registry, credential);
    write(system, &place, &path, &file)?;
    Ok(Stored::In(place))
}

/// Forgets a registry's credentials, wherever they are. Yields where they were.
///
/// # Errors
/// When they can't be forgotten somewhere. Elsewhere they may have been.
pub fn log_out(system: &mut impl System, places: &[Place], registry: &Registry) -> Result<Vec<Stored>, StoreError> {
    let mut forgotten = Vec::new();
    let mut asked = BTreeSet::new();
    for place in places {
        let Some(mut file) = read(system, place)? else { continue };
        if let Some(helper) = helper(&file, place, registry)?
            && asked.insert(helper.clone())
            && ask(system, &helper, place, registry)?.is_some()
        {
            for server in Helper::servers(registry) {
                let ran = run(system, &helper, Action::Erase, server.as_bytes());
                ran.and_then(|ran| ran.done()).map_err(|why| trouble(&helper, place, registry, why))?;
            }
            forgotten.push(Stored::By(helper, place.clone()));
        }
        let held = matches!(file.find(registry, None), Ok(Some(_)) | Err(_));
        if let Place::File(path) | Place::Named(path) = place
            && file.remove(registry)
        {
            write(system, place, path, &file)?;
            if held {
                forgotten.push(Stored::In(place.clone()));
            }
        }
    }
    Ok(forgotten)
}

/// The file that a registry's credential goes to.
fn file_for(
    system: &mut impl System,
    places: &[Place],
    registry: &Registry,
) -> Result<(Place, PathBuf, AuthFile), StoreError> {
    let mut last = None;
    for place in places {
        let (Place::File(path) | Place::Named(path)) = place else { continue };
        let file = read(system, place)?.unwrap_or_default();
        let known =
            helper(&file, place, registry)?.is_some() || file.find(registry, None).is_ok_and(|found| found.is_some());
        last = Some((place.clone(), path.clone(), file));
        if known {
            break;
        }
    }
    last.ok_or(StoreError::Nowhere)
}

fn read(system: &mut impl System, place: &Place) -> Result<Option<AuthFile>, StoreError> {
    let wrong = |why: String| StoreError::File { place: place.clone(), why };
    let content = match place {
        Place::File(path) | Place::Named(path) | Place::Legacy(path) => match system.read(path) {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(None),
            Err(why) => return Err(wrong(format!("it can't be read: {why}"))),
        },
        Place::Variable(json) => json.expose().as_bytes().to_vec(),
    };
    place.parse(&content).map(Some).map_err(wrong)
}

fn write(system: &mut impl System, place: &Place, path: &Path, file: &AuthFile) -> Result<(), StoreError> {
    let wrong = |why: io::Error| StoreError::File { place: place.clone(), why: format!("it can't be written: {why}") };
    system.write(path, &file.to_bytes()).map_err(wrong)
}

fn helper(file: &AuthFile, place: &Place, registry: &Registry) -> Result<Option<Helper>, StoreError> {
    file.helper(registry).map_err(|why| StoreError::File { place: place.clone(), why })
}

/// Asks a helper for a registry's credential, by each name that it may know it under.
fn ask(
    system: &mut impl System,
    helper: &Helper,
    place: &Place,
    registry: &Registry,
) -> Result<Option<Credential>, StoreError> {
    for server in Helper::servers(registry) {
        let ran = run(system, helper, Action::Get, server.as_bytes());
        let found = ran.and_then(|ran| ran.credential()).map_err(|why| trouble(helper, place, registry, why))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn run(system: &mut impl System, helper: &Helper, action: Action, input: &[u8]) -> Result<Ran, String> {
    system.run(helper, action, input).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => {
            "there is no such program on the PATH: install it, or take it out of the file".to_owned()
        }
        _ => format!("it can't be used: {why}"),
    })
}

fn trouble(helper: &Helper, place: &Place, registry: &Registry, why: String) -> StoreError {
    StoreError::Helper { program: helper.program(), place: place.clone(), registry: registry.clone(), why }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::secret::Secret;

    /// Files in memory, and helpers that are maps.
    #[derive(Default)]
    struct Memory {
        files: BTreeMap<PathBuf, Vec<u8>>,
        helpers: BTreeMap<String, BTreeMap<String, String>>,
        ran: Vec<String>,
    }

    impl System for Memory {
        fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
            Ok(self.files.get(path).cloned())
        }

        fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
            self.files.insert(path.to_owned(), content.to_vec());
            Ok(())
        }

        fn run(&mut self, helper: &Helper, action: Action, input: &[u8]) -> io::Result<Ran> {
            let input = String::from_utf8(input.to_vec()).unwrap();
            let shown = if action == Action::Store { "…" } else { &input };
            self.ran.push(format!("{} {} {shown}", helper.program(), action.as_str()));
            let kept = self.helpers.get_mut(&helper.program()).ok_or(io::ErrorKind::NotFound)?;
            let none = Ran { success: false, stdout: b"credentials not found in native keychain\n".to_vec() };
            Ok(match action {
                Action::Get => match kept.get(&input) {
                    Some(answer) if answer == "locked" => Ran { success: false, stdout: b"it is locked".to_vec() },
                    Some(answer) => Ran { success: true, stdout: answer.clone().into_bytes() },
                    None => none,
                },
                Action::Store => {
                    let value: serde_json::Value = serde_json::from_str(&input).unwrap();
                    kept.insert(value["ServerURL"].as_str().unwrap().to_owned(), input);
                    Ran { success: true, stdout: Vec::new() }
                }
                Action::Erase => match kept.remove(&input) {
                    Some(_) => Ran { success: true, stdout: Vec::new() },
                    None => none,
                },
            })
        }
    }

    fn memory(files: &[(&str, &str)], helper: &[(&str, &str)]) -> Memory {
        Memory {
            files: files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec())).collect(),
            helpers: BTreeMap::from([(
                "docker-credential-h".to_owned(),
                helper.iter().map(|(server, answer)| ((*server).to_owned(), (*answer).to_owned())).collect(),
            )]),
            ran: Vec::new(),
        }
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        let mut nothing = memory(&[], &[]);
        let named = [Place::Named("/typo.json".into())];
        let why = look_up(&mut nothing, &named, &registry(), None).unwrap_err().to_string();
        assert!(why.starts_with("/typo.json: there is no such file"), "{why}");
        assert_eq!(look_up(&mut nothing, &places(&["/a.json"]), &registry(), None).unwrap(), None);
        assert_eq!(log_out(&mut nothing, &named, &registry()).unwrap(), []);
        // Who logs in makes it.
        let credential = Credential::password("user", "hunter2");
        log_in(&mut nothing, &named, &registry(), &credential).unwrap();
        let found = look_up(&mut nothing, &named, &registry(), None).unwrap();
        assert_eq!(found.map(|found| found.credential), Some(credential));
    }

    fn places(paths: &[&str]) -> Vec<Place> {
        paths.iter().map(|path| Place::File(path.into())).collect()
    }

    fn registry() -> Registry {
        "r.example".parse().unwrap()
    }

    const USER: &str = r#"{"auths":{"r.example":{"username":"file","password":"x"}}}"#;
    const ANSWER: &str = r#"{"ServerURL":"r.example","Username":"helper","Secret":"x"}"#;

    #[test]
    fn the_first_place_that_has_something_counts() {
        let both = r#"{"credsStore":"h","auths":{"r.example":{"username":"file","password":"x"}}}"#;
        for (files, helper, expected) in [
            (&[("a", USER), ("b", r#"{"credsStore":"h"}"#)][..], &[("r.example", ANSWER)][..], Some("file")),
            (&[("a", "{}"), ("b", r#"{"credsStore":"h"}"#)], &[("r.example", ANSWER)], Some("helper")),
            (&[("b", both)], &[("r.example", ANSWER)], Some("helper")),
            (&[("b", both)], &[], Some("file")),
            (&[("b", both)], &[("https://r.example", ANSWER)], Some("helper")),
            (&[("b", r#"{"credHelpers":{"r.example":"h"}}"#)], &[("r.example", ANSWER)], Some("helper")),
            (&[("b", r#"{"credHelpers":{"other.example":"h"}}"#)], &[("r.example", ANSWER)], None),
            (&[("b", r#"{"credsStore":"h"}"#)], &[("r.example", r#"{"Username":"","Secret":""}"#)], None),
            (&[], &[], None),
        ] {
            let mut memory = memory(files, helper);
            let found = look_up(&mut memory, &places(&["a", "b"]), &registry(), None).unwrap();
            let user = found.map(|found| match found.credential {
                Credential::Password { username, .. } => username,
                other => panic!("{other:?}"),
            });
            assert_eq!(user.as_deref(), expected, "{files:?} {helper:?}");
        }
        let mut none = memory(&[], &[]);
        let variable = Place::Variable(Secret::new(USER));
        assert!(look_up(&mut none, &[variable], &registry(), None).unwrap().is_some());
    }

    #[test]
    fn a40_a_helper_that_fails_is_an_error_and_nobody_elses_turn() {
        let both = r#"{"credsStore":"h","auths":{"r.example":{"username":"file","password":"x"}}}"#;
        let mut locked = memory(&[("a", both)], &[("r.example", "locked")]);
        let why = look_up(&mut locked, &places(&["a"]), &registry(), None).unwrap_err().to_string();
        assert_eq!(why, "docker-credential-h, which a names for r.example: it says: it is locked");
        assert!(!locked.ran.iter().any(|line| line.contains("index.docker.io")), "{:?}", locked.ran);
        let mut missing = memory(&[("a", r#"{"credsStore":"nowhere"}"#)], &[]);
        let why = look_up(&mut missing, &places(&["a"]), &registry(), None).unwrap_err().to_string();
        assert!(why.contains("docker-credential-nowhere") && why.contains("no such program"), "{why}");
        for broken in ["{", r#"{"credsStore":"a/b"}"#, r#"{"auths":{"r.example":{"auth":"%"}}}"#] {
            let mut memory = memory(&[("a", broken)], &[]);
            let why = look_up(&mut memory, &places(&["a"]), &registry(), None).unwrap_err().to_string();
            assert!(why.starts_with("a: "), "{why}");
        }
    }

    #[test]
    fn what_was_kept_is_found_and_forgotten() {
        let credential = Credential::password("user", "pass");
        for (files, by_helper) in [
            (&[][..], false),
            (&[("b", r#"{"psFormat":"table"}"#)], false),
            (&[("b", r#"{"credsStore":"h"}"#)], true),
            (&[("b", r#"{"credHelpers":{"r.example":"h"}}"#)], true),
            // Found first in another file than Docker's: replaced there.
            (&[("a", USER), ("b", r#"{"credsStore":"h"}"#)], false),
        ] {
            let mut memory = memory(files, &[]);
            let places = places(&["a", "b"]);
            let stored = log_in(&mut memory, &places, &registry(), &credential).unwrap();
            assert_eq!(matches!(stored, Stored::By(..)), by_helper, "{files:?}");
            let found = look_up(&mut memory, &places, &registry(), None).unwrap().unwrap();
            assert_eq!((found.credential, found.stored), (credential.clone(), stored.clone()), "{files:?}");
            let all: Vec<u8> = memory.files.values().flatten().copied().collect();
            let encoded = String::from_utf8(all).unwrap().contains("dXNlcjpwYXNz");
            assert_eq!(encoded, !by_helper, "a password is in one place: {files:?}");
            assert_eq!(log_out(&mut memory, &places, &registry()).unwrap(), [stored], "{files:?}");
            assert_eq!(look_up(&mut memory, &places, &registry(), None).unwrap(), None, "{files:?}");
            assert_eq!(log_out(&mut memory, &places, &registry()).unwrap(), [], "{files:?}");
        }
        assert!(matches!(log_in(&mut memory(&[], &[]), &[], &registry(), &credential), Err(StoreError::Nowhere)));
    }

    #[test]
    fn a_namespace_of_one_file_goes_before_a_host_of_the_next() {
        let a = r#"{"auths":{"r.example/team":{"username":"team","password":"x"}}}"#;
        let mut memory = memory(&[("a", a), ("b", USER)], &[]);
        let mut of = |name: &str| {
            let name = name.parse().unwrap();
            look_up(&mut memory, &places(&["a", "b"]), &registry(), Some(&name)).unwrap().unwrap().key
        };
        assert_eq!((of("team/app").as_str(), of("other").as_str()), ("r.example/team", "r.example"));
    }
}
