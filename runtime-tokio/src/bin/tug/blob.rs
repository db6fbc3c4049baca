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
    let client = setup::client(&what.access, None, &[Party::from(&repository)])?;
    let progress = Progress::new(voice);
    match what.out {
        Some(out) => {
            let blob = progress.run(&client, SaveBlob::new(repository, digest, out)).await?;
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
