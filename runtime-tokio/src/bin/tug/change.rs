//! `tag` and `delete`: what leads to what, and what is no longer there.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use registry_tokio::Client;
use registry_tokio::proto::Event;
use registry_tokio::proto::flow::{DeleteManifest, DeleteRepository, Deleted, Flow, ListTags, Retag, Untag};
use registry_tokio::proto::spec::{Repository, TagOrDigest};
use serde_json::{Value, json};

use crate::args::{Delete, Format, Tag, Voice};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::setup;
use crate::stored::Party;

/// How many tags a question names.
const NAMED: usize = 8;

pub(crate) async fn tag(what: Tag, voice: Voice) -> Result<(), Trouble> {
    let repository = what.reference.repository();
    let client = setup::client(&what.access, None, &[Party::from(repository)])?;
    let flow = Retag::new(&what.reference, what.tags.iter().cloned());
    let left = "some of the tags may be there already; the same command gives all of them";
    let tagged = Progress::new(voice).run(&client, flow).await.map_err(|why| why.if_stopped(left))?;
    print(what.format.format, format_args!("{}\n", tagged.digest), || {
        let references: Vec<_> = what.tags.iter().map(|tag| format!("{repository}:{tag}")).collect();
        json!({
            "digest": tagged.digest,
            "mediaType": tagged.media_type,
            "size": tagged.size,
            "references": references,
        })
    })
}

pub(crate) async fn delete(what: Delete, voice: Voice) -> Result<(), Trouble> {
    let (reference, format) = (&what.reference, what.format.format);
    let client = || setup::client(&what.access, None, &[Party::from(reference)]);
    let progress = Progress::new(voice);
    let deleted = if what.all {
        let whole = reference.to_string().parse();
        let repository: Repository = whole.map_err(|why| Trouble::Usage(format!("--all: {why}: `{reference}`")))?;
        if !what.yes && !io::stdin().is_terminal() {
            let why = format!(
                "--all deletes every manifest of {repository}, and there is nobody to ask: give --yes if that is meant"
            );
            return Err(Trouble::Usage(why));
        }
        let client = client()?;
        if !what.yes {
            confirm(&client, &progress, &repository).await?;
        }
        let deleted = run(&client, &progress, format, DeleteRepository::new(repository.clone())).await?;
        if !deleted.is_empty() {
            let s = if deleted.len() == 1 { "" } else { "s" };
            progress.say(format_args!(
                "{} manifest{s} deleted; blobs stay until the registry collects its garbage",
                deleted.len()
            ));
        }
        deleted
    } else if what.tag_only {
        let tag = match (reference.tag(), reference.digest()) {
            (Some(tag), None) => tag.clone(),
            _ => return Err(Trouble::Usage("--tag-only wants REPOSITORY:TAG, without a digest".to_owned())),
        };
        vec![run(&client()?, &progress, format, Untag::new(reference.repository().clone(), tag)).await?]
    } else if reference.tag().is_none() && reference.digest().is_none() {
        // `latest` does not go without saying here.
        let why = format!("`{reference}` does not say what to delete: give a tag or a digest, or --all");
        return Err(Trouble::Usage(why));
    } else {
        vec![run(&client()?, &progress, format, DeleteManifest::new(reference)).await?]
    };
    match format {
        // It was printed as it went.
        Format::Text => Ok(()),
        Format::Json => print(format, "", || {
            json!({
                "repository": reference.repository().to_string(),
                "deleted": deleted.iter().map(entry).collect::<Value>(),
            })
        }),
    }
}

fn entry(deleted: &Deleted) -> Value {
    match &deleted.reference {
        TagOrDigest::Tag(tag) => json!({ "tag": tag.as_str() }),
        TagOrDigest::Digest(digest) => json!({ "digest": digest }),
    }
}

/// Runs a flow that deletes, and prints each thing when it is gone: also those before an error. If nobody reads that any more
/// (`… | head -1`), it goes on all the same: half of a repository is not what was asked for.
async fn run<F: Flow>(client: &Client, progress: &Progress, format: Format, flow: F) -> Result<F::Output, Trouble> {
    let mut unread = None;
    let shown = |event| match event {
        Event::Deleted { repository, reference } if format == Format::Text => {
            let gone = Deleted { repository, reference };
            if unread.is_none() {
                let mut out = io::stdout().lock();
                unread = writeln!(out, "{}", gone.to_reference()).and_then(|()| out.flush()).err();
            }
            Ok(None)
        }
        event => Ok(Some(event)),
    };
    let left = "what was printed is gone, and perhaps one more; everything else is still there";
    let deleted = progress.run_showing(client, flow, shown).await.map_err(|why| why.if_stopped(left))?;
    match unread {
        Some(why) if why.kind() != io::ErrorKind::BrokenPipe => Err(Trouble::Output(why)),
        _ => Ok(deleted),
    }
}

/// Asks whether all of a repository is to go, and says what that is.
async fn confirm(client: &Client, progress: &Progress, repository: &Repository) -> Result<(), Trouble> {
    let (mut count, mut named) = (0, Vec::new());
    let seen = |event| match event {
        Event::Listed { names } => {
            count += names.len();
            let room = NAMED.saturating_sub(named.len());
            named.extend(names.into_iter().take(room));
            Ok(None)
        }
        event => Ok(Some(event)),
    };
    progress.run_showing(client, ListTags::new(repository.clone()), seen).await?;
    if count == 0 {
        return Ok(());
    }
    let s = if count == 1 { "" } else { "s" };
    let mut question = format!("delete all of {repository}, which has {count} tag{s} ({}", named.join(", "));
    if count > named.len() {
        question.push_str(", …");
    }
    _ = write!(question, ")? [y/N] ");
    if asked(question).await? { Ok(()) } else { Err(Trouble::Other("nothing was deleted".to_owned())) }
}

/// Asks a person. Anything but a yes is a no.
async fn asked(question: String) -> Result<bool, Trouble> {
    let answer = tokio::task::spawn_blocking(move || {
        // The question goes to the terminal even if nothing else is to be said: without it nobody could answer.
        write!(io::stderr(), "{question}")?;
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.map_err(|why| Trouble::Other(format!("the question could not be asked: {why}")))?;
    let answer = answer.map_err(|why| Trouble::Other(format!("no answer could be read: {why}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
