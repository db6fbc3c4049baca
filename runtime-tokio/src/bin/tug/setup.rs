//! From flags to a client.

use std::fmt::Display;
use std::io::BufRead as _;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use registry_tokio::Client;
use registry_tokio::proto::job::Timeouts;
use registry_tokio::proto::{ClientIdentity, Config, Credential, Mirror, Scheme, UploadPolicy};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::args::{Access, Upload};
use crate::output::Trouble;
use crate::stored::{self, Party};

/// How much of what goes by is sent at a time: with less, the way to the registry and back would be felt.
const PIECE: NonZeroU64 = NonZeroU64::new(8 << 20).expect("8 MiB is not 0");

/// What the flags say, as configuration.
pub(crate) fn config(access: &Access, upload: Option<&Upload>) -> Config {
    let mut config = Config::default();
    config.user_agent = concat!("tug/", env!("CARGO_PKG_VERSION")).to_owned();
    config.scheme = match (access.plain_http, access.tls) {
        (true, _) => Scheme::Http,
        (_, true) => Scheme::Https,
        _ => Scheme::Auto,
    };
    config.retries = access.retries;
    config.timeouts = timeouts(access.timeout);
    config.requests_per_second = access.limit_rps;
    for (registry, mirror) in &access.mirrors {
        let mirror = Mirror::new(mirror.clone());
        config.mirrors.add(registry, if access.mirror_tags { mirror.trusted_with_tags() } else { mirror });
    }
    if let Some(upload) = upload {
        // What goes by is sent in pieces of this size, from memory.
        config.piece = match upload.chunk_size {
            UploadPolicy::Chunked(size) => size,
            _ => PIECE,
        };
        config.upload = if upload.monolithic { UploadPolicy::Monolithic } else { upload.chunk_size };
        config.transfers = upload.jobs;
    }
    config
}

/// All limits of time, as the one that is said has it: as they are to one another by default.
fn timeouts(idle: Duration) -> Timeouts {
    let usual = Timeouts::default();
    let like = |limit: Duration| Duration::try_from_secs_f64(idle.as_secs_f64() * limit.div_duration_f64(usual.idle));
    let like = |limit| like(limit).unwrap_or(Duration::MAX);
    // Who waits for less time does not want more speed.
    let bytes = usual.idle_bytes as f64 * idle.div_duration_f64(usual.idle);
    Timeouts {
        connect: usual.connect.min(idle),
        head: like(usual.head),
        idle,
        idle_bytes: (bytes as u64).max(1),
        whole: like(usual.whole),
    }
}

/// The client that the flags describe, for a command that talks to these.
pub(crate) fn client(access: &Access, upload: Option<&Upload>, parties: &[Party]) -> Result<Client, Trouble> {
    let mut config = config(access, upload);
    log_in(&mut config, access, parties)?;
    build(access, config)
}

/// Takes over the user and password of the flags, which are for the one registry that there is; or what is stored.
pub(crate) fn log_in(config: &mut Config, access: &Access, parties: &[Party]) -> Result<(), Trouble> {
    // Mirrors have their own, and what the flags say is not for them.
    let mirrors: Vec<Party> = access.mirrors.iter().map(|(_, mirror)| Party::from(mirror)).collect();
    stored::look_up(config, access, &mirrors)?;
    let Some(username) = &access.username else { return stored::look_up(config, access, parties) };
    let key = |party: &Party| party.registry.credential_key();
    match parties {
        [one, others @ ..] if others.iter().all(|other| key(other) == key(one)) => {
            config.log_in(&one.registry, Credential::password(username, password(access)?));
            Ok(())
        }
        _ => {
            let why = "--username needs one registry that it is for: give a REF, or --prefix (or log in to each)";
            Err(Trouble::Usage(why.to_owned()))
        }
    }
}

/// The client of a configuration that is complete.
pub(crate) fn build(access: &Access, mut config: Config) -> Result<Client, Trouble> {
    config.tls.unverified = access.insecure;
    if let Some(file) = &access.ca_file {
        config.tls.authorities = certificates("--ca-file", file)?;
    }
    if let (Some(certificate), Some(key)) = (&access.cert_file, &access.key_file) {
        config.tls.identity = Some(ClientIdentity::new(certificates("--cert-file", certificate)?, key_of(key)?));
    }
    // What was typed is all right; the files are not.
    Client::builder().config(config).proxies_from_env().build().map_err(|why| Trouble::Other(why.to_string()))
}

/// The password that belongs to `--username`.
pub(crate) fn password(access: &Access) -> Result<String, Trouble> {
    match &access.password {
        Some(password) => Ok(password.clone()),
        None if access.password_stdin => first_line(),
        None => Err(Trouble::Usage("--username needs --password-stdin or --password".to_owned())),
    }
}

/// A password from standard input.
pub(crate) fn first_line() -> Result<String, Trouble> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|why| Trouble::Other(format!("no password can be read from standard input: {why}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Trouble::Usage("standard input holds no password".to_owned()));
    }
    Ok(password.to_owned())
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<Vec<u8>>, Trouble> {
    let wrong = |why: &dyn Display| Trouble::Other(format!("{flag} {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|why| wrong(&why))?;
    let found = CertificateDer::pem_slice_iter(&text).map(|one| one.map(|der| der.to_vec()));
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|why| wrong(&why))?;
    if found.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    Ok(found)
}

fn key_of(file: &Path) -> Result<Vec<u8>, Trouble> {
    let key = PrivateKeyDer::from_pem_file(file);
    // Of what is no key, nothing is said.
    let key = key.map_err(|why| match why {
        pem::Error::Io(why) => Trouble::Other(format!("--key-file {}: {why}", file.display())),
        _ => {
            Trouble::Other(format!("--key-file {}: there is no private key in it (PEM, not encrypted)", file.display()))
        }
    })?;
    Ok(key.secret_der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_timeout_is_all_of_them() {
        let usual = Timeouts::default();
        assert_eq!(timeouts(usual.idle), usual);
        let short = timeouts(Duration::from_secs(6));
        assert_eq!((short.connect, short.idle), (Duration::from_secs(6), Duration::from_secs(6)));
        assert_eq!((short.head, short.whole), (Duration::from_secs(12), Duration::from_secs(30)));
        assert_eq!(short.idle_bytes, usual.idle_bytes / 10, "as many bytes a second as ever");
        let long = timeouts(Duration::from_secs(600));
        assert_eq!((long.connect, long.head), (usual.connect, 10 * usual.head));
        assert_eq!(timeouts(Duration::from_millis(1)).idle_bytes, 1);
    }
}
