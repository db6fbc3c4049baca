//! What registries' answers taught about the way they take uploads.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::Uri;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::Limits;
use crate::spec::{Origin, Registry};

/// A chunk should take about this long: long enough that its overhead is small, short enough that a cut costs little.
const TARGET: Duration = Duration::from_secs(10);

/// The first chunk size tried where nothing is known.
const FIRST_CHUNK: u64 = 16 << 20;

/// How many whole-body uploads may be cut before chunks are tried instead.
const CUTS_BEFORE_CHUNKS: u32 = 2;

/// How many chunks have to go through before one larger than what was cut at the same place is tried once more, at first; each
/// time that it is for nothing, four times as many.
const PATIENCE: u32 = 64;

/// What was learned about one registry: data, never its vendor's name. A session learns it by itself, at the price of a request
/// or two that come to nothing; who knows better can [preset](crate::Config::learned) it.
///
/// ```
/// use registry_proto::{Config, Learned};
///
/// let mut behind_a_proxy = Learned::default();
/// behind_a_proxy.largest = Some(32 << 20); // nothing larger gets through
/// let mut config = Config::default();
/// config.learned.set(&"registry.example".parse()?, behind_a_proxy);
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Learned {
    /// How large the next chunk is, in bytes, unless something else limits it: it grows while chunks are quick, and shrinks when
    /// they are cut.
    pub chunk: u64,
    /// Bodies of this many bytes or more were refused (413), or cut again and again.
    pub too_large: Option<u64>,
    /// The largest body that is sent, in bytes: larger ones were cut, always at about the same place, as by a proxy.
    pub largest: Option<u64>,
    /// It takes no chunks at all (405 or 501 to `PATCH`).
    pub refuses_chunks: bool,
    /// Uploads in chunks have to end with bytes, not with an empty `PUT`.
    pub wants_bytes_at_end: bool,
    /// A blob that is there could not be asked for with `HEAD`: that led to storage which doesn't take it.
    pub hides_blobs_from_head: bool,
    /// How it counts what it holds of an upload; `None` as long as that is not known.
    pub counting: Option<Counting>,
    #[serde(skip)]
    lately: Lately,
}

/// How a registry counts, in `Range`, what it holds of an upload when it is asked for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Counting {
    /// `0-<n-1>`, by the last byte: as specified.
    LastByte,
    /// `0-<n>`.
    OneMore,
    /// Neither fits: an upload that was cut is begun again.
    Unreliable,
}

/// What happened since something was learned; worth nothing in another session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lately {
    /// Cuts since something went through.
    cuts: u32,
    /// Where the last one was.
    cut_at: Option<u64>,
    /// Chunks as large as may be that went through.
    calm: u32,
    /// How often it turned out that larger ones don't.
    lessons: u32,
}

impl Default for Learned {
    /// Nothing.
    fn default() -> Self {
        Self {
            chunk: FIRST_CHUNK,
            too_large: None,
            largest: None,
            refuses_chunks: false,
            wants_bytes_at_end: false,
            hides_blobs_from_head: false,
            counting: None,
            lately: Lately::default(),
        }
    }
}

impl Learned {
    /// Whether a body of this size is worth sending in one request.
    pub(crate) fn takes_whole(&self, size: u64) -> bool {
        self.refuses_chunks
            || self.too_large.is_none_or(|limit| size < limit) && self.largest.is_none_or(|largest| size <= largest)
    }

    /// The size of the next chunk.
    pub(crate) fn chunk(&self, limits: &Limits) -> u64 {
        // (Whoever has set the limits may have set them the wrong way round.)
        self.chunk.min(self.largest.unwrap_or(u64::MAX)).max(limits.chunk_min).min(limits.chunk_max).max(1)
    }

    /// A body of `size` was refused as too large. Whether there is a smaller size left to try.
    pub(crate) fn refused_size(&mut self, limits: &Limits, size: u64) -> bool {
        self.too_large = Some(self.too_large.map_or(size, |known| known.min(size)));
        if size <= limits.chunk_min {
            return false;
        }
        self.chunk = self.chunk.min(size / 2).max(limits.chunk_min);
        true
    }

    /// A request was cut after `got` bytes of its body of `size`, as far as is known here.
    pub(crate) fn cut(&mut self, limits: &Limits, got: u64, size: u64) {
        self.lately.cuts += 1;
        let before = self.lately.cut_at.replace(got).filter(|before| *before > 0);
        if self.lately.cuts < CUTS_BEFORE_CHUNKS {
            return;
        }
        self.too_large = Some(self.too_large.map_or(size, |known| known.min(size)));
        let through = if got > 0 { got.min(size) } else { size };
        let half = (through / 2).max(limits.chunk_min);
        self.chunk = self.chunk.min(half).max(limits.chunk_min);
        // Two places in a row that are so close together are no accident. (Not the same: some of what was handed over is still
        // on its way when the connection is cut.)
        if got > 0 && before.is_some_and(|before| before.abs_diff(got) <= before.min(got) / 8) {
            self.largest = Some(self.largest.map_or(half, |largest| largest.min(half)));
            self.lately.calm = 0;
            self.lately.lessons = (self.lately.lessons + 1).min(10);
        }
    }

    /// A chunk of `size` went through in `took`.
    pub(crate) fn chunk_went_through(&mut self, limits: &Limits, size: u64, took: Duration) {
        self.lately.cuts = 0;
        if let Some(largest) = self.largest.filter(|largest| size >= *largest) {
            self.lately.calm += 1;
            if self.lately.calm >= PATIENCE << (2 * self.lately.lessons.saturating_sub(1)) {
                (self.largest, self.lately.calm) = (Some(largest.saturating_mul(2)), 0);
            }
        }
        let room = self.too_large.map_or(limits.chunk_max, |limit| limit.saturating_sub(1));
        let room = room.min(self.largest.unwrap_or(u64::MAX));
        if size >= self.chunk && took < TARGET / 2 {
            self.chunk = self.chunk.saturating_mul(2).min(limits.chunk_max).min(room).max(limits.chunk_min);
        } else if took > TARGET * 2 {
            self.chunk = (self.chunk / 2).max(limits.chunk_min);
        }
    }

    /// A whole body went through.
    pub(crate) const fn went_through(&mut self) {
        self.lately.cuts = 0;
    }
}

/// [`Learned`] by registry, as data: what one session has [learned](crate::Session::lessons), another can
/// [begin with](crate::Config::learned). Serialised it is a map of URLs:
///
/// ```
/// use registry_proto::session::Lessons;
///
/// let text = r#"{"https://registry.example": {"largest": 33554432, "counting": "oneMore"}}"#;
/// let lessons: Lessons = serde_json::from_str(text)?;
/// assert_eq!(lessons.iter().next().unwrap().1.largest, Some(32 << 20));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lessons(BTreeMap<Origin, Learned>);

impl Lessons {
    /// Presets what is known about a registry, whatever [scheme](crate::Config::scheme) it is spoken to with.
    pub fn set(&mut self, registry: &Registry, learned: Learned) {
        for https in [false, true] {
            if let Some(origin) = Origin::new(https, registry.wire_host()) {
                self.0.insert(origin, learned.clone());
            }
        }
    }

    /// All of it, by scheme, host and port.
    pub fn iter(&self) -> impl Iterator<Item = (&Origin, &Learned)> {
        self.0.iter()
    }

    pub(crate) fn of(&mut self, origin: &Origin) -> &mut Learned {
        self.0.entry(origin.clone()).or_default()
    }
}

impl Serialize for Lessons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(origin, learned)| (url(origin), learned)))
    }
}

impl<'de> Deserialize<'de> for Lessons {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_url = BTreeMap::<String, Learned>::deserialize(deserializer)?;
        let read = |(text, learned): (String, Learned)| {
            let origin = text.parse::<Uri>().ok().and_then(|url| Origin::of(&url));
            let origin = origin.ok_or_else(|| D::Error::custom(NoUrl(&text)))?;
            Ok((origin, learned))
        };
        by_url.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

struct NoUrl<'a>(&'a str);

impl fmt::Display for NoUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no http or https URL of a registry", self.0)
    }
}

fn url(origin: &Origin) -> String {
    format!("{}://{}", if origin.is_https() { "https" } else { "http" }, origin.authority())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_grows_while_it_is_quick_and_never_past_what_was_refused() {
        let limits = Limits::default();
        let mut learned = Learned::default();
        assert!(learned.takes_whole(1 << 40));
        assert!(learned.refused_size(&limits, 100 << 20));
        assert!(!learned.takes_whole(100 << 20));
        assert!(learned.takes_whole(99 << 20));
        for _ in 0..10 {
            let size = learned.chunk(&limits);
            learned.chunk_went_through(&limits, size, Duration::from_millis(100));
        }
        assert_eq!(learned.chunk(&limits), (100 << 20) - 1);
        learned.chunk_went_through(&limits, 50 << 20, Duration::from_secs(60));
        assert!(learned.chunk(&limits) < 60 << 20);
    }

    #[test]
    fn repeated_cuts_shrink_the_chunk_below_what_got_through() {
        let limits = Limits::default();
        let mut learned = Learned::default();
        learned.cut(&limits, 8 << 20, 1 << 30);
        assert!(learned.takes_whole(1 << 30), "one cut is bad luck");
        learned.cut(&limits, 8 << 20, 1 << 30);
        assert!(!learned.takes_whole(1 << 30));
        assert_eq!(learned.chunk(&limits), 4 << 20);
    }

    #[test]
    fn limits_the_wrong_way_round_are_limits_all_the_same() {
        let limits = Limits { chunk_min: 100, chunk_max: 10, ..Limits::default() };
        let mut learned = Learned::default();
        assert_eq!(learned.chunk(&limits), 10);
        assert!(learned.refused_size(&limits, 1000));
        learned.cut(&limits, 5, 10);
        learned.chunk_went_through(&limits, 10, Duration::ZERO);
        assert_eq!(learned.chunk(&limits), 10);
        assert_eq!(
            learned.chunk(&Limits { chunk_min: 0, chunk_max: 0, ..limits }),
            1,
            "there are no chunks of nothing"
        );
    }

    #[test]
    fn there_is_an_end_to_shrinking() {
        let limits = Limits::default();
        let mut learned = Learned::default();
        let mut size = 1 << 30;
        let mut steps = 0;
        while learned.refused_size(&limits, size) {
            size = learned.chunk(&limits);
            steps += 1;
        }
        assert_eq!(size, limits.chunk_min);
        assert!(steps < 20);
    }

    #[test]
    fn what_is_cut_at_the_same_place_twice_is_sent_in_pieces_that_get_through() {
        let limits = Limits::default();
        let mut learned = Learned::default();
        learned.cut(&limits, 64 << 20, 200 << 20);
        learned.cut(&limits, 66 << 20, 300 << 20);
        assert_eq!(learned.largest, Some(33 << 20));
        assert!(!learned.takes_whole(100 << 20) && learned.takes_whole(33 << 20), "also for the next blob");
        for _ in 0..3 {
            let size = learned.chunk(&limits);
            assert!(size <= 33 << 20);
            learned.chunk_went_through(&limits, size, Duration::from_millis(100));
        }
        assert_eq!(learned.chunk(&limits), 33 << 20);
        // It may have been an accident all the same, but not for ever.
        for lesson in [1, 4] {
            let mut chunks = 0;
            while learned.largest == Some(33 << 20) {
                learned.chunk_went_through(&limits, 33 << 20, Duration::from_millis(100));
                chunks += 1;
            }
            assert!((lesson * PATIENCE - 2..=lesson * PATIENCE).contains(&chunks), "{chunks}");
            for _ in 0..2 {
                learned.cut(&limits, 66 << 20, 66 << 20);
            }
            learned.went_through();
        }
    }

    #[test]
    fn cuts_here_and_there_set_no_limit_for_good() {
        let limits = Limits::default();
        let mut learned = Learned::default();
        for got in [3 << 20, 90 << 20, 0, 0, 20 << 20] {
            learned.cut(&limits, got, 100 << 20);
        }
        assert_eq!(learned.largest, None);
        for _ in 0..20 {
            let size = learned.chunk(&limits);
            learned.chunk_went_through(&limits, size, Duration::from_millis(100));
        }
        assert_eq!(learned.chunk(&limits), (100 << 20) - 1);
    }

    #[test]
    fn it_is_data() {
        let mut lessons = Lessons::default();
        lessons.set(&"localhost:5000".parse().unwrap(), Learned { refuses_chunks: true, ..Learned::default() });
        let text = serde_json::to_string(&lessons).unwrap();
        assert!(text.contains("\"http://localhost:5000\":{") && text.contains("\"refusesChunks\":true"), "{text}");
        assert_eq!(serde_json::from_str::<Lessons>(&text).unwrap(), lessons);
        let mut some: Lessons =
            serde_json::from_str(r#"{"https://r.example:443": {"counting": "oneMore", "new": 1}}"#).unwrap();
        let found = some.of(&Origin::new(true, "r.example").unwrap());
        assert_eq!((found.counting, found.chunk), (Some(Counting::OneMore), FIRST_CHUNK));
        let why = serde_json::from_str::<Lessons>(r#"{"r.example": {}}"#).unwrap_err().to_string();
        assert!(why.contains("r.example") && why.contains("URL"), "{why}");
    }
}
