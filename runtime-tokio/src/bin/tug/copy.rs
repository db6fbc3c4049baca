//! `copy`.

use registry_tokio::Client;
use registry_tokio::proto::Credential;
use registry_tokio::proto::flow::{Copied, Copy as Copying, CopyOptions, LeftOut};
use registry_tokio::proto::spec::Reference;
use serde_json::{Value, json};

use crate::args::{Copy, Voice};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::push::{references_json, references_text, summary};
use crate::setup;
use crate::stored::{self, Party};

pub(crate) async fn copy(what: Copy, voice: Voice) -> Result<(), Trouble> {
    let client = client(&what)?;
    let progress = Progress::new(voice);
    let mut options = CopyOptions::default();
    options.platform = what.platform;
    options.all_tags = what.all_tags;
    options.referrers = what.referrers;
    let flow = Copying::new(what.source.clone(), what.destination, options);
    let left = "what has come so far stays there, and the same command sends only what is missing";
    let copied = progress.run(&client, flow).await.map_err(|why| why.if_stopped(left))?;
    progress.say(summary(&copied.totals));
    print(what.format.format, references_text(&copied.references), || copied_json(&what.source, &copied))?;
    match &copied.left_out[..] {
        [] => Ok(()),
        [first, ..] => {
            let count = copied.left_out.len();
            Err(Trouble::Other(format!("{count} could not be copied, such as {}: {}", first.reference, first.why)))
        }
    }
}

/// A client that knows who it is at either end.
fn client(what: &Copy) -> Result<Client, Trouble> {
    let mut config = setup::config(&what.access, None);
    config.piece = what.transfer.chunk_size;
    config.transfers = what.transfer.jobs;
    let (source, destination) = (what.source.repository().registry(), what.destination.repository().registry());
    if let Some(username) = &what.from.from_username {
        if source.credential_key() == destination.credential_key() {
            let why = format!("{source} is where both SRC and DST are: give --username instead of --from-username");
            return Err(Trouble::Usage(why));
        }
        let password = match &what.from.from_password {
            Some(password) => password.clone(),
            None if what.from.from_password_stdin => setup::first_line()?,
            None => {
                let why = "--from-username needs --from-password-stdin or --from-password";
                return Err(Trouble::Usage(why.to_owned()));
            }
        };
        config.log_in(source, Credential::password(username, password));
    } else if what.access.username.is_none() || source.credential_key() != destination.credential_key() {
        stored::look_up(&mut config, &what.access, &[Party::from(&what.source)])?;
    }
    setup::log_in(&mut config, &what.access, &[Party::from(&what.destination)])?;
    setup::build(&what.access, config)
}

fn copied_json(source: &Reference, copied: &Copied) -> Value {
    let left_out = |one: &LeftOut| json!({ "reference": one.reference.to_string(), "why": one.why });
    json!({
        "digest": copied.digest.to_string(),
        "source": source.to_string(),
        "references": references_json(&copied.references),
        "referrers": copied.referrers,
        "leftOut": copied.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "sent": copied.totals.sent,
        "sentBytes": copied.totals.sent_bytes,
        "existed": copied.totals.existed,
        "mounted": copied.totals.mounted,
    })
}
