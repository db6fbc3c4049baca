//! What is said on standard error while an operation runs: bars on a terminal, lines in a log.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use registry_tokio::Client;
use registry_tokio::proto::flow::Deleted;
use registry_tokio::proto::job::Meter;
use registry_tokio::proto::spec::{Digest, Repository};
use registry_tokio::proto::{BlobId, Error, Event, Flow};

use crate::args::Voice;
use crate::interrupt;
use crate::output::{Trouble, bytes, for_stderr};

/// How often bars move.
const FRAME: Duration = Duration::from_millis(100);

/// How often a log hears how far it has come.
const PULSE: Duration = Duration::from_secs(10);

/// Runs operations and tells how they go.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    screen: Arc<Mutex<Screen>>,
}

/// Everything that is known about the blobs under way, and where it is shown.
#[derive(Debug)]
struct Screen {
    voice: Voice,
    bars: Option<Bars>,
    moving: HashMap<(Repository, Digest), Moving>,
    /// The blob that goes by, and its size in the archive: what its digest is, nobody knows yet.
    passing: Option<(Moving, u64)>,
    /// Bytes of blobs that are done.
    done: u64,
    /// Bytes of all blobs that have to be moved, as far as that is known.
    total: u64,
    pulse: Instant,
    /// Bytes that had been moved at the last pulse.
    then: u64,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    /// Whether the total is among them.
    is_shown: bool,
}

#[derive(Debug)]
struct Moving {
    meter: Meter,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(voice: Voice) -> Self {
        let bars = (!voice.quiet && io::stderr().is_terminal()).then(Bars::new);
        Self {
            screen: Arc::new(Mutex::new(Screen {
                voice,
                bars,
                moving: HashMap::new(),
                passing: None,
                done: 0,
                total: 0,
                pulse: Instant::now(),
                then: 0,
            })),
        }
    }

    /// Runs a flow. Ctrl-C asks it to wind down, for which there is not much time; a second one ends the command on the spot.
    pub(crate) async fn run<F: Flow>(&self, client: &Client, flow: F) -> Result<F::Output, Trouble> {
        self.run_showing(client, flow, |event| Ok(Some(event))).await
    }

    /// Runs a flow whose results come on the way: `show` prints those, and hands all other events back. When it can't, the flow
    /// stops: nobody reads us any more.
    pub(crate) async fn run_showing<F: Flow>(
        &self,
        client: &Client,
        flow: F,
        mut show: impl FnMut(Event) -> io::Result<Option<Event>>,
    ) -> Result<F::Output, Trouble> {
        let screen = Arc::clone(&self.screen);
        locked(&screen).begin();
        let ticking = tokio::spawn(async move {
            let mut frames = tokio::time::interval(FRAME);
            loop {
                frames.tick().await;
                locked(&screen).tick();
            }
        });
        let _stopped = interrupt::stops(client, self);
        let (unread, mut stop) = tokio::sync::mpsc::channel(1);
        let running = client.run_with(flow, |event| {
            let told = match event {
                Event::Listed { .. } | Event::Deleted { .. } => locked(&self.screen).aside(|| show(event)),
                event => show(event),
            };
            match told {
                Ok(Some(event)) => locked(&self.screen).tell(event),
                Ok(None) => {}
                // Once is enough.
                Err(why) => _ = unread.try_send(why),
            }
        });
        let result = tokio::select! {
            Some(why) = stop.recv() => Err(Trouble::Output(why)),
            () = interrupt::tidied() => Err(Error::Cancelled.into()),
            // It may have ended with what could not be shown.
            result = running => match stop.try_recv() {
                Ok(why) => Err(Trouble::Output(why)),
                Err(_) => result.map_err(Trouble::from),
            },
        };
        ticking.abort();
        locked(&self.screen).clear();
        result
    }

    /// Says something to a person.
    pub(crate) fn say(&self, line: impl std::fmt::Display) {
        locked(&self.screen).say(line);
    }
}

fn locked(screen: &Mutex<Screen>) -> std::sync::MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let total = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        // What has a fixed width fits into 40 columns; the bar takes the rest, if there is any.
        total.set_style(style("total {percent:>3}% {wide_bar} {binary_total_bytes} {binary_bytes_per_sec} {eta}"));
        Self { all, total, is_shown: false }
    }

    /// The total, once there is one: what is said before would show it as nothing of nothing.
    fn tell_total(&mut self, moved: u64, total: u64) {
        if !std::mem::replace(&mut self.is_shown, true) {
            self.total = self.all.add(self.total.clone());
        }
        self.total.set_length(total);
        self.total.set_position(moved);
    }

    fn clear_total(&mut self) {
        self.total.finish_and_clear();
        if std::mem::take(&mut self.is_shown) {
            self.all.remove(&self.total);
        }
    }

    fn add(&self, name: &str, size: u64) -> ProgressBar {
        let bar = ProgressBar::new(size);
        let bar = if self.is_shown { self.all.insert_before(&self.total, bar) } else { self.all.add(bar) };
        bar.set_style(style("{prefix:12} {percent:>3}% {wide_bar} {binary_total_bytes:>10}"));
        bar.set_prefix(name.to_owned());
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant, and tested").progress_chars("━╸ ")
}

/// The end of a name in an archive, as far as it fits where other blobs have their digits.
fn short_name(name: &str) -> String {
    let last = name.strip_suffix("/layer.tar").unwrap_or(name);
    let last = last.rsplit('/').next().unwrap_or(last);
    last.chars().take(12).collect()
}

/// The twelve digits by which people tell digests apart.
pub(crate) fn short(digest: &Digest) -> &str {
    let encoded = digest.as_str().split_once(':').map_or(digest.as_str(), |(_, encoded)| encoded);
    encoded.get(..12).unwrap_or(encoded)
}

impl Screen {
    fn say(&self, line: impl std::fmt::Display) {
        if self.voice.quiet {
            return;
        }
        match &self.bars {
            // Goes above the bars. If standard error is gone, there is nobody to tell.
            Some(bars) => _ = bars.all.println(for_stderr(line)),
            None => _ = writeln!(io::stderr(), "{line}"),
        }
    }

    /// Does something that may write to standard output, which may be the terminal that the bars are on.
    fn aside<T>(&self, doing: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.all.suspend(doing),
            None => doing(),
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Queued { blob, .. } => self.total += blob.size,
            Event::Kept { repository, blob } => self.left(&repository, &blob, "here already"),
            Event::Exists { repository, blob } => self.left(&repository, &blob, "there already"),
            Event::Mounted { repository, blob } => self.left(&repository, &blob, "mounted"),
            Event::Sending { repository, blob, meter } | Event::Fetching { repository, blob, meter } => {
                let key = (repository, blob.digest.clone());
                // Moved once more from the start: the same blob, the same bar.
                let bar = self.moving.remove(&key).and_then(|moving| moving.bar);
                let bar = bar.or_else(|| self.bars.as_ref().map(|bars| bars.add(short(&blob.digest), blob.size)));
                self.moving.insert(key, Moving { meter, bar });
            }
            Event::Passing { name, size, meter, .. } => {
                self.total += size;
                let bar = self.bars.as_ref().map(|bars| bars.add(&short_name(&name), size));
                self.passing = Some((Moving { meter, bar }, size));
            }
            Event::Sent { repository, blob, sent } if sent == blob.size => {
                // What was compressed on its way is as much done as what it was made of.
                self.done += self.passed().unwrap_or(blob.size);
                self.over(&repository, &blob);
                self.line(&blob, format_args!("sent, {}", bytes(blob.size)));
            }
            Event::Fetched { repository, blob } => {
                self.done += blob.size;
                self.over(&repository, &blob);
                self.line(&blob, format_args!("fetched, {}", bytes(blob.size)));
            }
            Event::ManifestPut { repository, reference, digest, .. } => {
                self.say(format_args!("{}: {repository} {reference} put", short(&digest)));
            }
            Event::ManifestExists { repository, reference, digest } => {
                self.say(format_args!("{}: {repository} {reference} there already", short(&digest)));
            }
            Event::Deleted { repository, reference } => {
                self.say(format_args!("{} deleted", Deleted { repository, reference }.to_reference()));
            }
            Event::Retrying { request, why, after } => {
                self.say(format_args!("{request}: {why}; once more in {:.1} s", after.as_secs_f64()));
            }
            Event::Waiting { origin, after } => {
                self.say(format_args!("{origin} asks for a pause of {:.1} s", after.as_secs_f64()));
            }
            Event::Notice(what) => self.say(format_args!("note: {what}")),
            Event::Asked { request, reply, took } if self.voice.verbose => {
                let took = took.as_millis();
                match reply {
                    Ok(status) => self.say(format_args!("{request}: {status}, {took} ms")),
                    Err(why) => self.say(format_args!("{request}: {why}, {took} ms")),
                }
            }
            _ => {}
        }
    }

    /// A blob that need not be moved after all.
    fn left(&mut self, repository: &Repository, blob: &BlobId, why: &str) {
        self.total = self.total.saturating_sub(blob.size);
        self.over(repository, blob);
        self.line(blob, format_args!("{why}, {}", bytes(blob.size)));
    }

    /// What went by is there.
    fn passed(&mut self) -> Option<u64> {
        let (Moving { bar, .. }, size) = self.passing.take()?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        Some(size)
    }

    fn over(&mut self, repository: &Repository, blob: &BlobId) {
        let moving = self.moving.remove(&(repository.clone(), blob.digest.clone()));
        if let Some(bar) = moving.and_then(|moving| moving.bar) {
            bar.finish_and_clear();
        }
    }

    /// A line about a blob, where no bar shows it.
    fn line(&self, blob: &BlobId, what: std::fmt::Arguments<'_>) {
        if self.bars.is_none() {
            self.say(format_args!("{}: {what}", short(&blob.digest)));
        }
    }

    fn moved(&self) -> u64 {
        let moving = self.moving.values().chain(self.passing.iter().map(|(moving, _)| moving));
        self.done + moving.map(|moving| moving.meter.read()).sum::<u64>()
    }

    fn tick(&mut self) {
        if self.total == 0 {
            // Nothing to move is no bar to show: it would be in the way of a list on standard output.
            return;
        }
        let moved = self.moved();
        if let Some(bars) = &mut self.bars {
            bars.tell_total(moved, self.total);
            for moving in self.moving.values().chain(self.passing.iter().map(|(moving, _)| moving)) {
                if let Some(bar) = &moving.bar {
                    bar.set_position(moving.meter.read());
                }
            }
        } else if self.pulse.elapsed() >= PULSE && !(self.moving.is_empty() && self.passing.is_none()) {
            let rate = (moved.saturating_sub(self.then) as f64 / self.pulse.elapsed().as_secs_f64()) as u64;
            self.say(format_args!("{} of {}, {}/s", bytes(moved), bytes(self.total), bytes(rate)));
            (self.pulse, self.then) = (Instant::now(), moved);
        }
    }

    /// One more operation: what the last one moved is not counted, and its total was cleared away.
    fn begin(&mut self) {
        (self.done, self.total, self.then) = (0, 0, 0);
        if let Some(bars) = &self.bars {
            bars.total.reset();
        }
    }

    fn clear(&mut self) {
        self.passed();
        for (_, moving) in self.moving.drain() {
            if let Some(bar) = moving.bar {
                bar.finish_and_clear();
            }
        }
        if let Some(bars) = &mut self.bars {
            bars.clear_total();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_templates() {
        Bars::new().add("0123456789ab", 1);
        assert_eq!(short_name("0123456789abcdef/layer.tar"), "0123456789ab");
        assert_eq!(short_name("blobs/sha256/0123456789abcdef"), "0123456789ab");
    }
}
