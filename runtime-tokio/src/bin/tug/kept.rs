//! What `serve --dir` keeps: every blob and manifest in a file that is called by its digest, and which repository has what under
//! which tag in one more.
//!
//! ```text
//! DIR/repositories.json           {"app": {"blobs": [digest …], "manifests": {digest: media type}, "tags": {tag: digest}}}
//! DIR/blobs/sha256/<hex>
//! ```
//!
//! Content is there before it is named, and a file is whole when it has its name: whenever this is killed, what was
//! acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use registry_tokio::proto::spec::Digest;
use registry_tokio::proto::testing::registry::Registry;
use serde_json::{Map, Value, json};

const INDEX: &str = "repositories.json";

/// A folder that a registry is kept in.
pub(crate) struct Kept {
    folder: PathBuf,
    state: Mutex<State>,
}

/// What is in the folder.
#[derive(Default)]
struct State {
    index: Vec<u8>,
    content: BTreeSet<Digest>,
}

impl Kept {
    /// Opens a folder, or makes it, and fills the registry with what is in it. Otherwise: why not, and what to do.
    pub(crate) fn open(folder: &Path, registry: &mut Registry) -> Result<Self, String> {
        let path = folder.join(INDEX);
        let kept = Self { folder: folder.to_owned(), state: Mutex::default() };
        fs::create_dir_all(folder.join("blobs")).map_err(|why| match why.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                format!("{} is no folder; name one (--dir), which is made if it is not there", folder.display())
            }
            _ => format!("{}: {why}", folder.display()),
        })?;
        let index = match fs::read(&path) {
            Ok(index) => index,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(kept),
            Err(why) => return Err(format!("{}: {why}", path.display())),
        };
        let wrong = |why: &dyn std::fmt::Display| {
            format!("{}: {why}; name another folder, or mend or remove this one", path.display())
        };
        let repositories: Map<String, Value> = serde_json::from_slice(&index).map_err(|why| wrong(&why))?;
        for (repository, held) in &repositories {
            kept.fill(registry, repository, held).map_err(|why| wrong(&why))?;
        }
        kept.keep(registry).map_err(|why| wrong(&why))?;
        Ok(kept)
    }

    fn fill(&self, registry: &mut Registry, name: &str, held: &Value) -> Result<(), String> {
        let read = |digest: &str| {
            let digest: Digest = digest.parse().map_err(|why| format!("{digest}: {why}"))?;
            let bytes = fs::read(self.path(&digest)).map_err(|why| format!("{digest}: {why}"))?;
            let right = digest.algorithm().is_some_and(|algorithm| Digest::compute(algorithm, &bytes) == digest);
            if right { Ok::<_, String>((digest, bytes)) } else { Err(format!("{digest} is damaged")) }
        };
        registry.create_repository(name);
        for digest in held["blobs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let (digest, bytes) = read(digest)?;
            if !registry.restore_blob(name, &digest, bytes.into()) {
                return Err(format!("{digest} is damaged"));
            }
        }
        let tags: BTreeMap<&str, &str> = held["tags"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(tag, to)| Some((tag.as_str(), to.as_str()?)))
            .collect();
        for (digest, media_type) in held["manifests"].as_object().into_iter().flatten() {
            let (digest, bytes) = read(digest)?;
            let names = tags.iter().filter(|(_, to)| **to == digest.as_str()).map(|(tag, _)| *tag);
            let media_type = media_type.as_str().unwrap_or_default();
            let put = registry.restore_manifest(name, &digest, bytes.into(), media_type, names);
            if !put.map_err(|why| format!("{digest}: {why}"))? {
                return Err(format!("{digest} is damaged"));
            }
        }
        Ok(())
    }

    /// Brings the folder to what the registry holds.
    pub(crate) fn keep(&self, registry: &Registry) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, content) = index(registry);
        if index == state.index {
            return Ok(());
        }
        for (digest, repository) in &content {
            let path = self.path(digest);
            if state.content.contains(digest) || path.exists() {
                continue;
            }
            let manifest = || registry.manifest(repository, digest.as_str()).map(|(bytes, _)| bytes);
            if let Some(bytes) = registry.blob(repository, digest.as_str()).or_else(manifest) {
                write(&path, &bytes)?;
            }
        }
        write(&self.folder.join(INDEX), &index)?;
        let content: BTreeSet<Digest> = content.into_keys().collect();
        for gone in state.content.difference(&content) {
            // Nobody names it any more; what is left over harms nobody.
            let _ = fs::remove_file(self.path(gone));
        }
        *state = State { index, content };
        Ok(())
    }

    /// A digest that exists is well-formed: no part of it leads anywhere else.
    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.algorithm_name()).join(digest.encoded())
    }
}

/// What is where, as JSON; and of each content, one repository that has it.
fn index(registry: &Registry) -> (Vec<u8>, BTreeMap<Digest, String>) {
    let mut content = BTreeMap::new();
    let mut index = Map::new();
    for name in registry.repositories() {
        let (blobs, manifests) = (registry.blobs(&name), registry.manifests(&name));
        for digest in blobs.iter().chain(&manifests) {
            content.entry(digest.clone()).or_insert_with(|| name.clone());
        }
        let types = manifests.iter().filter_map(|digest| {
            let (_, media_type) = registry.manifest(&name, digest.as_str())?;
            Some((digest.to_string(), Value::from(media_type)))
        });
        let tags = registry.tags(&name).into_iter().filter_map(|tag| {
            let digest = registry.tagged(&name, &tag)?;
            Some((tag, Value::from(digest.to_string())))
        });
        let blobs: Vec<String> = blobs.iter().map(Digest::to_string).collect();
        let types: Map<String, Value> = types.collect();
        let tags: Map<String, Value> = tags.collect();
        index.insert(name, json!({ "blobs": blobs, "manifests": types, "tags": tags }));
    }
    (Value::Object(index).to_string().into_bytes(), content)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension("partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(partial, path)
}
