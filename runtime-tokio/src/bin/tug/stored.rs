//! Credentials that are kept on this machine: the files and helpers that the core decides about.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use registry_tokio::proto::Config;
use registry_tokio::proto::credentials::{self, Action, Helper, Place, Ran, StoreError, System};
use registry_tokio::proto::spec::{Reference, Registry, Repository, RepositoryName};

use crate::args::Access;
use crate::output::Trouble;

/// The most that is read of a file or of a helper's output, in bytes.
const MOST: u64 = 1 << 20;

/// Whom a command talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    pub(crate) registry: Registry,
    repository: Option<RepositoryName>,
}

impl From<&Registry> for Party {
    fn from(registry: &Registry) -> Self {
        Self { registry: registry.clone(), repository: None }
    }
}

impl From<&Repository> for Party {
    fn from(repository: &Repository) -> Self {
        Self { registry: repository.registry().clone(), repository: Some(repository.name().clone()) }
    }
}

impl From<&Reference> for Party {
    fn from(reference: &Reference) -> Self {
        reference.repository().into()
    }
}

/// Takes over what is stored for these.
pub(crate) fn look_up(config: &mut Config, access: &Access, parties: &[Party]) -> Result<(), Trouble> {
    let (places, mut machine) = (places(access.authfile.as_deref()), Machine::new(access.timeout));
    for party in parties {
        if let Some(found) = credentials::look_up(&mut machine, &places, &party.registry, party.repository.as_ref())? {
            config.credentials.insert(&found.key, found.credential);
        }
    }
    Ok(())
}

/// Where credentials are kept, in the order in which they are looked for.
pub(crate) fn places(authfile: Option<&Path>) -> Vec<Place> {
    credentials::places(authfile, |name| std::env::var_os(name), user())
}

/// This user's number.
fn user() -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata("/proc/self").ok().map(|about| about.uid())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

impl From<StoreError> for Trouble {
    fn from(why: StoreError) -> Self {
        Self::Other(why.to_string())
    }
}

/// This machine's files and programs.
#[derive(Debug)]
pub(crate) struct Machine {
    /// How long a helper may take.
    limit: Duration,
    /// What helpers have answered: one that asks for a finger or a password does so once.
    answers: BTreeMap<(Helper, Vec<u8>), Ran>,
}

impl Machine {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, answers: BTreeMap::new() }
    }
}

impl System for Machine {
    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            // Where podman runs as root, others may not even look.
            Err(why) if why.kind() == ErrorKind::PermissionDenied && path.starts_with("/run/containers") => {
                return Ok(None);
            }
            Err(why) => return Err(why),
        };
        let mut content = Vec::new();
        file.take(MOST + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MOST {
            return Err(io::Error::other("it is larger than a megabyte"));
        }
        Ok(Some(content))
    }

    fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        // The file itself, not a link to it, is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        private_folder(folder)?;
        let beside = beside(&path);
        let written = private_file(&beside).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        let replaced = written.and_then(|()| fs::rename(&beside, &path));
        if replaced.is_err() {
            // It may never have been there.
            let _ = fs::remove_file(&beside);
        }
        replaced
    }

    fn run(&mut self, helper: &Helper, action: Action, input: &[u8]) -> io::Result<Ran> {
        let key = (helper.clone(), input.to_vec());
        if action != Action::Get {
            self.answers.clear();
        } else if let Some(known) = self.answers.get(&key) {
            return Ok(known.clone());
        }
        let ran = run(&helper.program(), action.as_str(), input, self.limit)?;
        if action == Action::Get {
            self.answers.insert(key, ran.clone());
        }
        Ok(ran)
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    path.with_file_name(format!(".{name}.{}.{moment:x}.tmp", std::process::id()))
}

/// Runs a program with one argument and this on its standard input, for so long and not longer.
fn run(program: &str, argument: &str, input: &[u8], limit: Duration) -> io::Result<Ran> {
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ran = talk(&mut child, input, deadline);
    if ran.is_err() {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    ran.map_err(|why| match why.kind() {
        ErrorKind::TimedOut => io::Error::new(
            ErrorKind::TimedOut,
            format!("it did not answer within {limit:?} and was stopped (--timeout)"),
        ),
        _ => why,
    })
}

/// Threads of their own write and read: whatever the program does with its pipes, nobody waits longer than he wants to.
fn talk(child: &mut Child, input: &[u8], deadline: Instant) -> io::Result<Ran> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::other("it has no pipes"));
    };
    let input = input.to_vec();
    // A helper need not read what it is given; whether it did its work it says itself.
    thread::Builder::new().spawn(move || drop(stdin.write_all(&input)))?;
    // It may have something to tell whoever sits there ("touch your key now"). Our own standard error it doesn't get: a program
    // that it has started and that outlives it would keep that open, and whoever reads it waiting.
    let (heard, hears) = mpsc::channel::<()>();
    thread::Builder::new().spawn(move || {
        // If our own can't be written to, there is nobody to tell.
        let _ = io::copy(&mut stderr.take(MOST), &mut io::stderr());
        drop(heard);
    })?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MOST + 1).read_to_end(&mut output).map(|_| output);
        // Nobody listens any more if it took too long.
        let _ = sender.send(read);
    })?;
    let stdout = match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(read) => read?,
        Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("its output could not be read")),
    };
    if stdout.len() as u64 > MOST {
        return Err(io::Error::other("it says more than a megabyte"));
    }
    loop {
        if let Some(status) = child.try_wait()? {
            // Its last words are on their way.
            let _ = hears.recv_timeout(Duration::from_millis(100));
            return Ok(Ran { success: status.success(), stdout });
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}
