//! TLS by flags, with a real registry that wants to know who asks.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};

use crate::home::{Home, archive, failed, fine};
use crate::run::{err, printed};

/// `docker-registry` over TLS; it speaks to nobody whom the authority of its own certificate doesn't know.
struct Registry {
    process: Child,
    host: String,
}

impl Registry {
    fn start(home: &Home) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = home.write("ca.pem", authority.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            home.write(&format!("{name}.pem"), params.signed_by(&key, &authority).unwrap().pem());
            home.write(&format!("{name}.key"), key.serialize_pem());
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\", tls: {{certificate: {}, key: {}, clientcas: [{}]}}}}\n",
            home.path("data").display(),
            home.path("server.pem").display(),
            home.path("server.key").display(),
            ca.display(),
        );
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(home.write("config.yml", config))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: `bash .ci/test` does that");
        let registry = Self { process, host: address.to_string() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not come up");
            sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn certificates_by_flags() {
    let home = Home::new();
    let registry = Registry::start(&home);
    let (archive, image) = (archive(&home), format!("{}/app:v1", registry.host));
    let file = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let shown = ["--tls", "--cert-file", &certificate, "--key-file", &key];
    let flags = [&shown[..], &["--ca-file", &ca]].concat();

    let pushed = home.tug(&[&["push", "-q", &archive, &image][..], &flags].concat());
    assert_eq!(fine(&pushed), "");
    let digest = home.tug(&[&["digest", &image][..], &flags].concat());
    fine(&digest);
    assert_eq!(printed(&digest), printed(&pushed));

    let stranger = home.tug(&[&["digest", &image, "--retries", "0"][..], &shown].concat());
    assert!(failed(&stranger).contains("is its authority known here"), "{stranger:?}");
    let nobody = home.tug(&["digest", &image, "--retries", "0", "--tls", "--ca-file", &ca]);
    assert!(failed(&nobody).contains("digest") || failed(&nobody).contains(&registry.host), "{nobody:?}");

    // Whose certificate it is doesn't matter then; but it is said.
    for verb in [&["digest", &image][..], &["push", &archive, &image], &["tags", &format!("{}/app", registry.host)]] {
        let careless = home.tug(&[verb, &shown, &["--insecure"]].concat());
        let said = fine(&careless);
        assert_eq!(said.matches("is not verified: anybody on the way can pretend").count(), 1, "{said}");
    }

    let wrong = |status: i32, flags: &[&str], what: &str| {
        let output = home.tug(&[&["digest", &image, "--tls"], flags].concat());
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(err(&output).contains(what), "{what}: {output:?}");
    };
    wrong(2, &["--cert-file", &certificate], "--key-file");
    wrong(2, &["--key-file", &key], "--cert-file");
    wrong(1, &["--cert-file", &certificate, "--key-file", &file("server.key")], "can't be used");
    wrong(1, &["--cert-file", &certificate, "--key-file", &certificate], "there is no private key in it");
    wrong(1, &["--cert-file", &key, "--key-file", &key], "there is no certificate in it");
    wrong(1, &["--ca-file", "/nowhere.pem"], "--ca-file /nowhere.pem");
    wrong(2, &["--insecure", "--ca-file", &ca], "cannot be used with");
}
