//! `blob`.

use std::io::{self, Write as _};

use registry_tokio::proto::Event;
use registry_tokio::proto::flow::{ReadBlob, SaveBlob};

use crate::args::{Blob, Format, Voice};
use crate::output::{Trouble, print};
use crate::progress::Progress;
use crate::setup;
use crate::stored::Party;

pub(crate) async fn blob(what: Blob, voice: Voice) -> Result<(), Trouble> {
    let repository = what.reference.repository().clone();
    let digest = what.reference.digest().cloned().ok_or_else(|| {
        Trouble::Usage(format!("{} says no digest: REPOSITORY@sha256:… names a blob", what.reference))
    })?;
    let mut config = setup::config(&what.access, None);
    config.piece = what.chunk_size;
    setup::log_in(&mut config, &what.access, &[Party::from(&repository)])?;
    let client = setup::build(&what.access, config)?;
    let progress = Progress::new(voice);
    match what.out {
        Some(out) => {
            let left = "what has come so far is kept: the same command goes on from there";
            let saved = progress.run(&client, SaveBlob::new(repository, digest, out)).await;
            let blob = saved.map_err(|why| why.if_stopped(left))?;
            print(Format::Text, format!("{}\n", blob.digest), || unreachable!("it is printed as text"))
        }
        None => {
            let shown = |event| match event {
                Event::Content(piece) => io::stdout().lock().write_all(&piece).map(|()| None),
                event => Ok(Some(event)),
            };
            progress.run_showing(&client, ReadBlob::new(repository, digest), shown).await?;
            Ok(io::stdout().lock().flush()?)
        }
    }
}
