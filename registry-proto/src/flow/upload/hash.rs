//! The hash that runs along: what was sent is what should be sent.

use super::part::clamp;
use super::{Content, State, Upload};
use crate::digester::Digester;
use crate::error::Error;
use crate::flow::Context;
use crate::job::{BlobPart, Failure, FailureKind, FileRange, Job, LocalJob};
use crate::spec::Digest;

impl Upload {
    /// Whether what was hashed, the whole blob, is what it should be.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let found = self.digester.digest();
        if !self.named {
            self.digest = found.clone();
        }
        if found == self.digest {
            return Ok(());
        }
        Err(match &self.source {
            Some(source) => source.mismatch(&self.digest, found),
            None => {
                let why = format!("a blob was to be {}, but its bytes are {found}", self.digest);
                Error::Local(Failure::new(FailureKind::Mismatch, why))
            }
        })
    }

    pub(super) fn blob_part(&self, offset: u64) -> BlobPart {
        BlobPart {
            offset,
            size: self.size,
            expected: self.digest.clone(),
            digester: self.digester.clone(),
            meter: self.meter.clone(),
        }
    }

    /// Takes over the digester that a driver sent back, if it got further than ours.
    pub(super) fn adopt(&mut self, sent: Option<&Digester>) {
        if let Some(sent) = sent
            && sent.at() > self.digester.at()
        {
            self.digester = sent.clone();
        }
    }

    /// The registry holds bytes that our hash has not seen (a reply was lost, and the digester with it): reads them here.
    pub(super) fn catch_up(&mut self, cx: &mut Context<'_>) -> Option<Job> {
        let (at, acked) = (self.digester.at(), self.acked);
        match &self.content {
            // It was hashed before it was sent.
            Content::Remote(_) | Content::Fed => {
                self.state = self.next(cx);
                None
            }
            Content::Bytes(bytes) => {
                let gap = &bytes[clamp(at, bytes.len())..clamp(acked, bytes.len())];
                self.digester.feed(at, gap).expect("it starts at the watermark");
                self.state = self.next(cx);
                None
            }
            Content::File { path, range } => {
                let gap = FileRange::new(path.clone(), range.start + at..range.start + acked, self.blob_part(at));
                let ticket = cx.ticket();
                self.state = State::CatchingUp(ticket.id());
                Some(Job::Local(LocalJob::hash(ticket, gap)))
            }
        }
    }
}

pub(super) fn running(digest: &Digest) -> Result<Digester, Error> {
    let unknown = || Error::Misuse(format!("{digest} uses an algorithm that can't be verified here"));
    digest.algorithm().map(Digester::new).ok_or_else(unknown)
}
