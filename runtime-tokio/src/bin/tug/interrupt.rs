//! Ctrl-C: one listener for as long as the process lives, since the first one replaces what the system would do, for ever.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_tokio::Client;
use tokio::sync::watch;

use crate::INTERRUPTED;
use crate::progress::Progress;

/// How long an operation that was stopped may tidy up: close its upload sessions, if the registry answers at all.
pub(crate) const TIDYING: Duration = Duration::from_secs(5);

/// How long a prompt for a password has to give the terminal back.
const RESTORING: Duration = Duration::from_millis(300);

/// Whether somebody has pressed it.
static STOPPED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

static DOING: Mutex<Doing> = Mutex::new(Doing::Nothing);

/// What there is to be stopped.
#[derive(Debug)]
enum Doing {
    /// Nothing that could be left half-done.
    Nothing,
    /// Somebody is asked for a password, and the terminal shows nothing of what is typed.
    Asking,
    /// Somebody waits for it.
    Waiting,
    /// An operation of this client, which is shown there.
    Running(Client, Progress),
}

/// While it lives, that is what is to be stopped.
#[derive(Debug)]
pub(crate) struct Until(());

impl Drop for Until {
    fn drop(&mut self) {
        *doing() = Doing::Nothing;
    }
}

fn doing() -> MutexGuard<'static, Doing> {
    DOING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(what: Doing) -> Until {
    *doing() = what;
    Until(())
}

/// An operation of this client is asked to wind down.
pub(crate) fn stops(client: &Client, shown: &Progress) -> Until {
    set(Doing::Running(client.clone(), shown.clone()))
}

/// A password is asked for.
pub(crate) fn spares_the_terminal() -> Until {
    set(Doing::Asking)
}

/// Resolves when it was pressed, or, where there is such a thing, when the process was asked to end (`kill`).
pub(crate) async fn pressed_or_terminated() -> io::Result<()> {
    let _until = set(Doing::Waiting);
    let pressed = async { _ = STOPPED.subscribe().wait_for(|stopped| *stopped).await };
    #[cfg(unix)]
    {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            () = pressed => {}
            _ = terminated.recv() => {}
        }
    }
    #[cfg(not(unix))]
    pressed.await;
    Ok(())
}

/// Resolves when it was pressed and there was time enough to tidy up.
pub(crate) async fn tidied() {
    _ = STOPPED.subscribe().wait_for(|stopped| *stopped).await;
    tokio::time::sleep(TIDYING).await;
}

/// Listens from now on.
pub(crate) fn listen() -> io::Result<()> {
    #[cfg(unix)]
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    #[cfg(windows)]
    let mut interrupts = tokio::signal::windows::ctrl_c()?;
    tokio::spawn(async move {
        while interrupts.recv().await.is_some() {
            let again = STOPPED.send_replace(true);
            let pause = match &*doing() {
                Doing::Running(client, shown) if !again => {
                    let (client, shown) = (client.clone(), shown.clone());
                    // Whoever doesn't read our output must not keep this from hearing the next one.
                    tokio::task::spawn_blocking(move || {
                        shown.say("stopping; Ctrl-C again ends at once");
                        client.cancel();
                    });
                    continue;
                }
                Doing::Waiting if !again => continue,
                // Who asks says it, too, but then with the terminal as it was.
                Doing::Asking => RESTORING,
                _ => Duration::ZERO,
            };
            tokio::time::sleep(pause).await;
            say("stopped");
            std::process::exit(INTERRUPTED.into());
        }
    });
    Ok(())
}

fn say(what: &str) {
    // The terminal has shown `^C` where the cursor was.
    let line = if io::stderr().is_terminal() { "\n" } else { "" };
    // If it is gone, there is nobody to tell.
    _ = writeln!(io::stderr(), "{line}{what}");
}
