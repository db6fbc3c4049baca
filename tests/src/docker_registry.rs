//! Debian's `docker-registry` on a free port, and `skopeo` as a witness.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authority::{Authority, Identity};
use crate::token_server::{ISSUER, SERVICE, TokenServer, USER};

/// The bcrypt hash of the password, made with `perl -e 'print crypt("swordfish", "\$2y\$05\$tests…")'`.
const HASH: &str = "$2y$05$tests.tests.tests.tese4Z2gqrU1sQUdQUZLyTTItJLkGT.FWLy";

/// A real registry with storage of its own. It ends, and its storage goes, when it is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Child,
    port: u16,
    storage: TempDir,
}

impl DockerRegistry {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When `docker-registry` is not installed (`bash .ci/test` installs it) or does not come up.
    pub fn start() -> Self {
        Self::configured(&std::env::temp_dir(), "delete: {enabled: true}")
    }

    /// As [`start`](Self::start), but one that deletes nothing, as it is without configuration.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn that_keeps_everything() -> Self {
        Self::configured(&std::env::temp_dir(), "delete: {enabled: false}")
    }

    /// As [`start`](Self::start), with its storage in memory where there is such a place: for thousands of small files, which
    /// take a disk a minute to write and another one to remove.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn of_small_things() -> Self {
        let shared_memory = Path::new("/dev/shm");
        let place = if shared_memory.is_dir() { shared_memory.to_owned() } else { std::env::temp_dir() };
        Self::configured(&place, "delete: {enabled: true}")
    }

    /// As [`start`](Self::start), over TLS, and one that lets in who has a token of this server.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn with_tokens(identity: &Identity, tokens: &TokenServer) -> Self {
        let folder = TempDir::new().unwrap();
        let bundle = folder.path().join("bundle.pem");
        fs::write(&bundle, tokens.bundle()).unwrap();
        let auth = format!(
            "auth:\n  token: {{realm: \"{}\", service: \"{SERVICE}\", issuer: \"{ISSUER}\", rootcertbundle: \"{}\"}}\n",
            tokens.realm(),
            bundle.display()
        );
        Self::guarded(identity, folder, &auth)
    }

    /// As [`start`](Self::start), over TLS, and one that lets in the user with the password of
    /// [`token_server`](crate::token_server).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn with_htpasswd(identity: &Identity) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("htpasswd");
        fs::write(&file, format!("{USER}:{HASH}\n")).unwrap();
        let auth = format!("auth:\n  htpasswd: {{realm: \"here\", path: \"{}\"}}\n", file.display());
        Self::guarded(identity, folder, &auth)
    }

    /// As [`start`](Self::start), over TLS, and one that speaks to nobody whom this authority doesn't know.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn with_client_certificates(identity: &Identity, authority: &Authority) -> Self {
        let folder = TempDir::new().unwrap();
        let clients = folder.path().join("clients.pem");
        fs::write(&clients, authority.root_pem()).unwrap();
        let (certificate, key) = identity.files(folder.path());
        let tls = format!(
            ", tls: {{certificate: \"{}\", key: \"{}\", clientcas: [\"{}\"]}}",
            certificate.display(),
            key.display(),
            clients.display()
        );
        Self::run(folder, "delete: {enabled: true}", &tls, "")
    }

    fn guarded(identity: &Identity, folder: TempDir, auth: &str) -> Self {
        let (certificate, key) = identity.files(folder.path());
        let tls = format!(", tls: {{certificate: \"{}\", key: \"{}\"}}", certificate.display(), key.display());
        Self::run(folder, "delete: {enabled: true}", &tls, auth)
    }

    fn configured(place: &Path, storage_options: &str) -> Self {
        Self::run(TempDir::new_in(place).unwrap(), storage_options, "", "")
    }

    fn run(storage: TempDir, storage_options: &str, tls: &str, auth: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = storage.path().join("config.yml");
        // Without a secret of its own, it would know none of its upload sessions again after it was started again.
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  {storage_options}\nhttp: {{addr: \"127.0.0.1:{port}\", secret: \"kept\"{tls}}}\n{auth}",
            storage.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let process = serve(storage.path());
        let registry = Self { process, port, storage };
        registry.wait();
        registry
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again after [`kill`](Self::kill), at the same address and with what it has stored.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_again(&mut self) {
        self.process = serve(self.storage.path());
        self.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not come up");
            sleep(Duration::from_millis(20));
        }
    }

    /// Its address, as references name it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(storage: &Path) -> Child {
    Command::new("docker-registry")
        .arg("serve")
        .arg(storage.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry is installed: `bash .ci/test` does that")
}

/// Runs `skopeo` and yields what it prints.
///
/// # Panics
/// When it fails.
pub fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let ran = Command::new("skopeo").args(arguments).output().expect("skopeo is installed: `bash .ci/test` does that");
    assert!(ran.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// The manifest that `skopeo` reads from a registry: its bytes.
pub fn raw_manifest(reference: &str) -> Vec<u8> {
    skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")])
}

/// Lets `skopeo` read a whole image, every blob checked against its digest, into an OCI folder.
pub fn copy_out(reference: &str, to: &Path) {
    skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        &format!("docker://{reference}"),
        &format!("oci:{}:out", to.display()),
    ]);
}
