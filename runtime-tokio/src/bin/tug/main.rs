//! `tug` moves container images: the command around this crate's client.

mod archive;
mod args;
mod blob;
mod change;
mod copy;
mod demo;
mod image;
mod inspect;
mod interrupt;
mod kept;
mod lists;
mod login;
mod man;
mod output;
mod progress;
mod pull;
mod push;
mod referrers;
mod registry;
mod resume;
mod serve;
mod setup;
mod source;
mod stored;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Tug, Verb};
use output::Trouble;

/// What a shell reports for a program that was stopped by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    // clap leaves with 0 after --help and with 2 after wrong usage.
    let tug = Tug::parse();
    match run(tug) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough (`tug … | head`).
        Err(Trouble::Output(why)) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Trouble::Operation(registry_tokio::proto::Error::Cancelled)) => {
            complain("stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(Trouble::Stopped(why)) => {
            complain(why);
            ExitCode::from(INTERRUPTED)
        }
        Err(Trouble::Usage(why)) => {
            complain(why);
            ExitCode::from(2)
        }
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

fn complain(why: impl std::fmt::Display) {
    let style = if io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let text = output::for_stderr(format_args!("error: {why}"));
    let text = text.strip_prefix("error").unwrap_or(&text);
    // If not even this can be written, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}error{}{text}", style.0, style.1);
}

fn run(tug: Tug) -> Result<(), Trouble> {
    if let Verb::Completions { shell } = tug.verb {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Tug::command(), "tug", &mut script);
        return output::print_raw(&script);
    }
    if let Verb::Man { folder } = &tug.verb {
        return man::man(folder.as_deref());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|why| Trouble::Other(format!("no threads could be started: {why}")))?;
    let voice = tug.voice;
    let done = runtime.block_on(async {
        interrupt::listen().map_err(|why| Trouble::Other(format!("Ctrl-C can't be listened for: {why}")))?;
        match tug.verb {
            Verb::Push(what) => push::push(what, voice).await,
            Verb::Pull(what) => pull::pull(what, voice).await,
            Verb::Copy(what) => copy::copy(what, voice).await,
            Verb::Tags(what) => lists::tags(what, voice).await,
            Verb::Catalog(what) => lists::catalog(what, voice).await,
            Verb::Tag(what) => change::tag(what, voice).await,
            Verb::Delete(what) => change::delete(what, voice).await,
            Verb::Ping(what) => registry::ping(what, voice).await,
            Verb::Digest(what) => inspect::digest(what, voice).await,
            Verb::Inspect(what) => inspect::inspect(what, voice).await,
            Verb::Manifest(what) => inspect::manifest(what, voice).await,
            Verb::Config(what) => inspect::config(what, voice).await,
            Verb::Referrers(what) => referrers::referrers(what, voice).await,
            Verb::Blob(what) => blob::blob(what, voice).await,
            Verb::LogIn(what) => login::log_in(what, voice).await,
            Verb::LogOut(what) => login::log_out(what, voice),
            Verb::Validate(what) => archive::validate(what, voice).await,
            Verb::Serve(what) => serve::serve(what).await,
            Verb::Demo(what) => demo::demo(what, voice).await,
            Verb::Completions { .. } | Verb::Man { .. } => unreachable!("handled above"),
        }
    });
    // A file read that hangs must not keep a finished command from ending.
    runtime.shutdown_background();
    done
}
