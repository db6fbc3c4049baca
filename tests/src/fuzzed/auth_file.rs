//! What people are logged in with: files, and the answers of credential helpers.

use std::io;
use std::path::Path;

use registry_proto::Credential;
use registry_proto::credentials::{
    Action, AuthFile, Credentials, Helper, Place, Ran, System, log_in, log_out, look_up,
};
use registry_proto::spec::{Registry, RepositoryName};
use serde_json::Value;

use super::is_printable;

/// Between a file's content and a helper's answer.
const BREAK: &[u8] = b"\n---\n";

/// A file, and what a helper says that it may name.
pub fn auth_file(data: &[u8]) {
    // What is said to us is no secret of ours.
    if data.windows(7).any(|window| window.eq_ignore_ascii_case(b"hunter2")) {
        return;
    }
    let at = data.windows(BREAK.len()).position(|window| window == BREAK);
    let (file, answer) = at.map_or((data, &b""[..]), |at| (&data[..at], &data[at + BREAK.len()..]));
    let registries: Vec<Registry> = ["docker.io", "r.example", "r.example:443", "localhost:5000"]
        .iter()
        .map(|text| text.parse().expect("they are registries"))
        .collect();
    for place in [Place::File("config.json".into()), Place::Legacy("config.json".into())] {
        for registry in &registries {
            lookups(file, answer, &place, registry);
        }
    }
    for parsed in [AuthFile::parse(file), AuthFile::parse_legacy(file)] {
        match parsed {
            Ok(parsed) => registries.iter().for_each(|registry| changes(&parsed, registry, &registries)),
            Err(why) => assert!(is_printable(&why), "{why:?}"),
        }
    }
}

/// What is changed is what was to be changed.
fn changes(file: &AuthFile, registry: &Registry, others: &[Registry]) {
    let credential = Credential::password("user", "hunter2:hunter2");
    let mut changed = file.clone();
    changed.set(registry, &credential);
    assert!(matches!(changed.find(registry, None), Ok(Some((_, found))) if found == credential), "{registry}");
    let again = AuthFile::parse(&changed.to_bytes());
    assert!(again.is_ok());
    // A number that has no exact form may be rounded when it is read.
    if !has_fractions(&changed.to_bytes()) {
        assert_eq!(again.as_ref(), Ok(&changed));
    }
    assert!(changed.remove(registry));
    assert_eq!(changed.find(registry, None), Ok(None));
    assert!(!changed.remove(registry));
    let key = |registry: &Registry| registry.as_str().trim_end_matches(":443").to_owned();
    for other in others.iter().filter(|other| key(other) != key(registry)) {
        assert_eq!(changed.find(other, None), file.find(other, None), "{other}, not {registry}");
        assert_eq!(changed.helper(other), file.helper(other));
    }
}

fn has_fractions(bytes: &[u8]) -> bool {
    fn of(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.is_f64(),
            Value::Array(items) => items.iter().any(of),
            Value::Object(fields) => fields.values().any(of),
            _ => false,
        }
    }
    serde_json::from_slice(bytes).is_ok_and(|value: Value| of(&value))
}

fn lookups(file: &[u8], answer: &[u8], place: &Place, registry: &Registry) {
    let places = [place.clone()];
    let name: RepositoryName = "library/app".parse().expect("it is a name");
    for success in [true, false] {
        let mut system = Memory { file: Some(file.to_vec()), answer: Ran { success, stdout: answer.to_vec() } };
        for repository in [None, Some(&name)] {
            match look_up(&mut system, &places, registry, repository) {
                Ok(Some(found)) => {
                    let mut credentials = Credentials::default();
                    credentials.insert(&found.key, found.credential.clone());
                    assert_eq!(credentials.lookup(registry, repository), Some(&found.credential), "{}", found.key);
                    assert!(is_printable(&found.stored.to_string()));
                }
                Ok(None) => {}
                Err(why) => assert!(is_printable(&why.to_string()), "{why}"),
            }
        }
        let credential = Credential::password("user", "hunter2:hunter2");
        match log_in(&mut system, &places, registry, &credential) {
            Ok(_) => assert!(AuthFile::parse(system.file.as_deref().unwrap_or_default()).is_ok()),
            Err(why) => {
                let text = format!("{why} {why:?}");
                assert!(is_printable(&why.to_string()), "{text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
        let _ = log_out(&mut system, &places, registry);
    }
}

/// A file, and a helper that always says the same.
struct Memory {
    file: Option<Vec<u8>>,
    answer: Ran,
}

impl System for Memory {
    fn read(&mut self, _: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.file.clone())
    }

    fn write(&mut self, _: &Path, content: &[u8]) -> io::Result<()> {
        self.file = Some(content.to_vec());
        Ok(())
    }

    fn run(&mut self, helper: &Helper, action: Action, _: &[u8]) -> io::Result<Ran> {
        // It becomes a program's name.
        let program = helper.program();
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        assert!(program.bytes().all(fine) && program.len() <= 118, "{program}");
        assert!(["get", "store", "erase"].contains(&action.as_str()));
        Ok(self.answer.clone())
    }
}
