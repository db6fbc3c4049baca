//! `login` and `logout`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use registry_tokio::proto::Credential;
use registry_tokio::proto::credentials;
use registry_tokio::proto::flow::Authenticate;
use registry_tokio::proto::spec::Registry;
use serde_json::json;

use crate::args::{Access, FormatArg, Voice, registry};
use crate::interrupt;
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::setup;
use crate::stored::{Machine, places};

const LOGIN_MORE: &str = "\
Examples:
  tug login registry.example.org
  echo \"$TOKEN\" | tug login ghcr.io -u me --password-stdin

JSON (--format json): {registry, username, storedBy, tried: whether the registry wanted to see it}";

/// Log in to a registry, for all commands that come
///
/// User and password are asked for unless they are given, and tried out before they are kept: by the credential helper that the
/// file names for the registry (`credHelpers`, `credsStore`), else in the file itself, which only its owner can read.
///
/// The file is that of --authfile or $REGISTRY_AUTH_FILE, else the one where the registry is known already (podman's or
/// Docker's), else Docker's config.json. Docker, podman and skopeo find the credential there, too.
#[derive(Args, Debug)]
#[command(after_long_help = LOGIN_MORE)]
pub(crate) struct LogIn {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "HOST", value_parser = registry)]
    registry: Registry,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    access: Access,
}

const LOGOUT_MORE: &str = "\
Examples:
  tug logout registry.example.org

JSON (--format json): {registry, forgottenBy: [where it was kept]}";

/// Forget what is stored for a registry, in every file and by every helper that has it
#[derive(Args, Debug)]
#[command(after_long_help = LOGOUT_MORE)]
pub(crate) struct LogOut {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "HOST", value_parser = registry)]
    registry: Registry,
    /// The one file to look into
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Stop a credential helper that takes longer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = crate::args::seconds)]
    timeout: std::time::Duration,
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) async fn log_in(what: LogIn, voice: Voice) -> Result<(), Trouble> {
    let (registry, access) = (what.registry, what.access);
    let username = match &access.username {
        Some(username) => username.clone(),
        None => ask(&format!("User at {registry}: "), false)?,
    };
    let password = match &access.password {
        Some(password) => password.clone(),
        None if access.password_stdin => setup::first_line()?,
        None => ask(&format!("Password of {username}: "), true)?,
    };
    let credential = Credential::password(username.as_str(), password);

    let mut config = setup::config(&access, None);
    config.log_in(&registry, credential.clone());
    let client = setup::build(&access, config)?;
    let progress = Progress::new(voice);
    let tried = progress.run(&client, Authenticate::new(registry.clone())).await;
    let tried = tried.map_err(|why| why.if_stopped("nothing was stored"))?;
    if !tried.challenged {
        progress.say(format!("{registry} lets everybody in, so that the password could not be tried out"));
    }

    let mut machine = Machine::new(access.timeout);
    let stored = credentials::log_in(&mut machine, &places(access.authfile.as_deref()), &registry, &credential)?;
    progress.say(format!("logged in to {registry} as {username}; kept by {stored}"));
    print(
        what.format.format,
        "",
        || json!({ "registry": registry.as_str(), "username": username, "storedBy": stored.to_string(), "tried": tried.challenged }),
    )
}

pub(crate) fn log_out(what: LogOut, voice: Voice) -> Result<(), Trouble> {
    let mut machine = Machine::new(what.timeout);
    let forgotten = credentials::log_out(&mut machine, &places(what.authfile.as_deref()), &what.registry)?;
    let progress = Progress::new(voice);
    if forgotten.is_empty() {
        progress.say(format!("nothing is stored for {}", what.registry));
    }
    for stored in &forgotten {
        progress.say(format!("logged out of {}: forgotten by {stored}", what.registry));
    }
    print(what.format.format, "", || {
        let forgotten: Vec<String> = forgotten.iter().map(ToString::to_string).collect();
        json!({ "registry": what.registry.as_str(), "forgottenBy": forgotten })
    })
}

/// Asks whoever sits at the terminal.
fn ask(question: &str, secret: bool) -> Result<String, Trouble> {
    if !io::stdin().is_terminal() {
        let why = "there is no terminal to ask for user and password: give --username and --password-stdin";
        return Err(Trouble::Usage(why.to_owned()));
    }
    let unheard = |why: io::Error| match why.kind() {
        // Of Ctrl-C, the one who reads a password tells when the terminal is as it was.
        io::ErrorKind::Interrupted => Trouble::Stopped("stopped; nothing was stored".to_owned()),
        _ => Trouble::Other(format!("the terminal can't be read: {why}")),
    };
    let mut terminal = io::stderr();
    write!(terminal, "{question}").and_then(|()| terminal.flush()).map_err(unheard)?;
    let answer = if secret {
        let _until = interrupt::spares_the_terminal();
        rpassword::read_password().map_err(unheard)?
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(unheard)?;
        line.trim().to_owned()
    };
    if answer.is_empty() {
        return Err(Trouble::Usage("nothing was typed".to_owned()));
    }
    Ok(answer)
}
