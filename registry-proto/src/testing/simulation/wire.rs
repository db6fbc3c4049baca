//! One request on its way to the registry and back, and what can become of it.

use std::io::Cursor;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode};

use super::faults::Fate;
use super::{Asked, Simulation};
use crate::Digester;
use crate::archive::{Disk, Opened};
use crate::job::{
    Completion, Failure, FailureKind, FileRange, Incoming, Job, More, Payload, Phase, Plan, Received, Ticket, Timeouts,
    kind,
};

/// The longest that a reply is late, in milliseconds.
const LATEST: u64 = 60_000;
/// How far the clock jumps, in seconds: farther than anything waits.
const JUMPS: Range<u64> = 600..2 * 3600;

/// The body of a request that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Supplied {
    pub(super) got: BytesMut,
    /// What becomes of the request, since it has reached the registry, and how many bytes of its body that takes.
    bound: Option<(Fate, usize)>,
}

impl Simulation {
    /// Whether the registry, which a request has just reached, waits for more of its body.
    pub(super) fn wants_more(&mut self, job: &Job) -> bool {
        let Job::Exchange(ticket, request, ..) = job else { return false };
        let Payload::Supplied(length) = request.body() else { return false };
        let Some(Supplied { got, bound }) = self.supplied.get(&ticket.id()) else { return false };
        if let Some((_, wants)) = bound {
            return got.len() < *wants;
        }
        self.trouble();
        let (fate, length) = (self.fate(), usize::try_from(*length).unwrap_or(usize::MAX));
        let limit = self.faults.body_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let wants = match fate {
            Fate::Refused | Fate::Answered(_) => 0,
            // (Of nothing there is nothing to cut.)
            Fate::Cut | Fate::Stalled => 1 + self.below(length),
            Fate::Fine | Fate::ReplyLost => length.min(limit.saturating_add(1)),
        };
        let body = self.supplied.entry(ticket.id()).or_default();
        body.bound = Some((fate, wants));
        body.got.len() < wants
    }

    /// The answer, and how long it takes to come back.
    pub(super) fn exchange(
        &mut self,
        ticket: Ticket<kind::Exchange>,
        request: http::Request<Payload>,
        plan: Plan,
        timeouts: Timeouts,
        requests: &mut Vec<Asked>,
    ) -> (Completion, Duration) {
        let (head, payload) = request.into_parts();
        let (fate, supplied) = match self.supplied.remove(&ticket.id()) {
            Some(Supplied { got, bound: Some((fate, _)) }) => (fate, got.freeze()),
            _ => {
                self.trouble();
                (self.fate(), Bytes::new())
            }
        };
        let at_once = Duration::ZERO;
        if fate == Fate::Refused {
            requests.push(Asked::new(&head, None, 0));
            return (ticket.failed(Failure::new(FailureKind::Connect, "refused"), None), at_once);
        }
        self.shown.see(&head);
        let before = match &payload {
            Payload::File(range) => Some(range.clone()),
            _ => None,
        };
        let (body, mut sent) = match payload {
            Payload::Supplied(_) => (Ok(supplied), None),
            payload => self.body(payload),
        };
        let body = match body {
            Ok(body) => body,
            Err(why) => {
                // The body broke off by our own doing; the registry has what came before.
                requests.push(Asked::new(&head, None, 0));
                self.registry.cut(&head, Bytes::new());
                return (ticket.failed(why, sent), at_once);
            }
        };
        if self.happens(self.faults.lost_digesters) {
            sent = None;
        }
        let cut = |why| Failure::new(why, "simulated");
        let limit = self.faults.body_limit.and_then(|limit| usize::try_from(limit).ok());
        match fate {
            Fate::Answered(status) => {
                requests.push(Asked::new(&head, StatusCode::from_u16(status).ok(), 0));
                let mut reply = Response::new(Bytes::new());
                *reply.status_mut() = StatusCode::from_u16(status).expect("statuses are picked from a list");
                if matches!(status, 429 | 503) && self.happens(500) {
                    let pause = self.below(4);
                    reply.headers_mut().insert("retry-after", HeaderValue::from(pause as u64));
                }
                // Whoever answers early has read nothing of the body.
                (self.reply_with(ticket, reply, plan, None), self.late())
            }
            Fate::Cut | Fate::Stalled if !body.is_empty() => {
                let got = self.cut_point(body.len());
                let ahead = self.below(body.len() - got + 1);
                let part = self.cut_body(&head, &body, got, ahead, before.filter(|_| sent.is_some()), requests);
                let (why, after) = match fate {
                    Fate::Cut => (FailureKind::Cut, at_once),
                    _ => (FailureKind::Timeout(Phase::Body), timeouts.idle),
                };
                (ticket.failed(cut(why), part), after)
            }
            _ if limit.is_some_and(|limit| limit < body.len()) => {
                let got = limit.unwrap_or_default();
                self.misfortunes += 1;
                // The client is as much ahead as there is room for in the sockets between.
                let ahead = self.below((body.len() - got).min(got / 16) + 1);
                let part = self.cut_body(&head, &body, got, ahead, before.filter(|_| sent.is_some()), requests);
                (ticket.failed(cut(FailureKind::Cut), part), at_once)
            }
            Fate::Fine | Fate::Cut | Fate::Stalled | Fate::ReplyLost | Fate::Refused => {
                let length = body.len();
                let reply = self.registry.handle(&head, body);
                self.watch.answered(&reply);
                let lost = fate != Fate::Fine;
                let mut told = Asked::new(&head, (!lost).then(|| reply.status()), length);
                if !lost && reply.status().is_client_error() {
                    told.refusal = reply.body().clone();
                }
                requests.push(told);
                match fate {
                    Fate::Stalled => (ticket.failed(cut(FailureKind::Timeout(Phase::Head)), sent), timeouts.head),
                    // Lost at once, or after a part of its body.
                    _ if lost => {
                        let part = self.cut_point(reply.body().len());
                        let filed = self.receive(&reply, plan, part).err().and_then(|(_, filed)| filed);
                        (ticket.failed(cut(FailureKind::Cut), sent.or(filed)), at_once)
                    }
                    _ => (self.reply_with(ticket, reply, plan, sent), self.late()),
                }
            }
        }
    }

    /// What happens to the world before a request arrives.
    fn trouble(&mut self) {
        if self.happens(self.faults.clock_jumps) {
            self.misfortunes += 1;
            self.now = self.now + Duration::from_secs(JUMPS.start + self.rng.below(JUMPS.end - JUMPS.start));
            self.registry.advance(self.now.since_epoch());
        }
        if self.happens(self.faults.lost_sessions) {
            self.misfortunes += self.registry.lose_uploads() as u64;
        }
        if self.happens(self.faults.revoked_tokens) {
            self.misfortunes += 1;
            self.registry.revoke_tokens();
        }
    }

    fn late(&mut self) -> Duration {
        if self.happens(self.faults.late_replies) {
            self.misfortunes += 1;
            Duration::from_millis(self.rng.below(LATEST))
        } else {
            Duration::ZERO
        }
    }

    /// Of a request's body only `got` bytes arrive, of some more than were sent. The client's digester, after all that was sent.
    fn cut_body(
        &mut self,
        head: &http::request::Parts,
        body: &Bytes,
        got: usize,
        ahead: usize,
        range: Option<FileRange>,
        requests: &mut Vec<Asked>,
    ) -> Option<Digester> {
        let got = body.slice(..got);
        requests.push(Asked::new(head, None, got.len()));
        let hashed = got.len() + ahead;
        let part = range.and_then(|range| self.read_part(range, hashed));
        self.registry.cut(head, got);
        part
    }

    fn reply_with(
        &mut self,
        ticket: Ticket<kind::Exchange>,
        mut reply: Response<Bytes>,
        plan: Plan,
        sent: Option<Digester>,
    ) -> Completion {
        if reply.status().is_success() && !reply.body().is_empty() && self.happens(self.faults.spoilt_replies) {
            let mut body = Vec::from(reply.body().clone());
            self.misfortunes += 1;
            let at = self.below(body.len());
            body[at] ^= 1;
            *reply.body_mut() = body.into();
        }
        let whole = reply.body().len();
        match self.receive(&reply, plan, whole) {
            Ok(received) => ticket.replied(reply.into_parts().0, received, sent),
            Err((why, filed)) => ticket.failed(why, sent.or(filed)),
        }
    }

    /// Takes in the first `part` bytes of a reply's body. What came of less than all of it is in the second half of the error.
    pub(super) fn receive(
        &mut self,
        reply: &Response<Bytes>,
        plan: Plan,
        part: usize,
    ) -> Result<Received, (Failure, Option<Digester>)> {
        let (head, body) = reply.clone().into_parts();
        let whole = part == body.len();
        let cut = || Failure::new(FailureKind::Cut, "simulated");
        let pieces = body[..part].chunks(1 + self.below(5000));
        match plan.sink(&head) {
            Incoming::Memory(mut collecting) => {
                for piece in pieces {
                    match collecting.feed(piece) {
                        Ok(More::Wanted) => {}
                        Ok(More::Unwanted) => break,
                        Err(why) => return Err((why, None)),
                    }
                }
                if whole { Ok(collecting.finish()) } else { Err((cut(), None)) }
            }
            Incoming::File(filing) => {
                let mut writing = filing.write_to(self.disk.clone()).map_err(|why| (why, None))?;
                for piece in pieces {
                    if let Err(why) = writing.feed(piece) {
                        return Err((why, Some(writing.into_digester())));
                    }
                }
                let digester = writing.into_digester();
                if whole { Ok(Received::Filed(digester)) } else { Err((cut(), Some(digester))) }
            }
        }
    }

    /// The whole body, read the way drivers read it.
    pub(super) fn body(&mut self, payload: Payload) -> (Result<Bytes, Failure>, Option<Digester>) {
        match payload {
            Payload::Empty => (Ok(Bytes::new()), None),
            Payload::Bytes(bytes) => (Ok(bytes), None),
            Payload::File(range) => self.read(range),
            Payload::Supplied(_) => unreachable!("its pieces are kept elsewhere"),
        }
    }

    fn read(&mut self, range: FileRange) -> (Result<Bytes, Failure>, Option<Digester>) {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let mut outgoing = match self.open(&range).and_then(|file| range.read_from(file)) {
            Ok(outgoing) => outgoing,
            Err(why) => return (Err(why), None),
        };
        let mut all = BytesMut::with_capacity(length);
        loop {
            let size = 1 + self.below(length.max(1));
            match outgoing.piece(size) {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) => return (Ok(all.freeze()), Some(outgoing.into_digester())),
                Err(why) => return (Err(why), Some(outgoing.into_digester())),
            }
        }
    }

    /// The digester after the first `length` bytes.
    fn read_part(&mut self, range: FileRange, length: usize) -> Option<Digester> {
        let mut outgoing = range.clone().read_from(self.open(&range).ok()?).ok()?;
        if length > 0 {
            outgoing.piece(length).ok()?;
        }
        Some(outgoing.into_digester())
    }

    fn open(&self, range: &FileRange) -> Result<Cursor<Bytes>, Failure> {
        match self.disk.open(range.path())? {
            Opened::File { file, .. } => Ok(file),
            Opened::Folder => Err(Failure::new(FailureKind::Source, "it is a folder")),
        }
    }
}
