//! Compressors for layers that are pushed: [`PushFeed::compressing`](registry_proto::flow::PushFeed::compressing) takes one.
//!
//! The same bytes become the same bytes each time: there is no time and no name in what is written.

use std::io::{self, Write as _};

use registry_proto::archive::{Compressor, Squeeze};

/// Compresses by gzip, as Docker does.
///
/// ```
/// use registry_tokio::pack;
/// use registry_tokio::proto::archive::Feed;
/// use registry_tokio::proto::flow::{PushFeed, PushOptions};
///
/// let feed = Feed::new("standard input", std::io::empty());
/// let push = PushFeed::new(feed, "localhost:5000/app:v1".parse()?, PushOptions::default());
/// let push = push.compressing(pack::gzip());
/// # drop(push);
/// # Ok::<(), registry_tokio::proto::spec::ReferenceError>(())
/// ```
#[cfg(feature = "gzip")]
pub fn gzip() -> Compressor {
    Compressor::gzip(|| Ok(Box::new(Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default())))))
}

/// Compresses by Zstandard: smaller and several times faster, for registries and runtimes that know it (containerd since 1.5,
/// Docker since 23).
///
/// ```
/// use registry_tokio::pack;
/// use registry_tokio::proto::archive::Feed;
/// use registry_tokio::proto::flow::{PushFeed, PushOptions};
///
/// let feed = Feed::new("standard input", std::io::empty());
/// let push = PushFeed::new(feed, "localhost:5000/app:v1".parse()?, PushOptions::default());
/// let push = push.compressing(pack::zstd());
/// # drop(push);
/// # Ok::<(), registry_tokio::proto::spec::ReferenceError>(())
/// ```
#[cfg(feature = "zstd")]
pub fn zstd() -> Compressor {
    Compressor::zstd(|| {
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
        Ok(Box::new(Zstandard(encoder)))
    })
}

#[cfg(feature = "gzip")]
struct Gzip(flate2::write::GzEncoder<Vec<u8>>);

#[cfg(feature = "gzip")]
impl Squeeze for Gzip {
    fn squeeze(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.0.write_all(bytes)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> io::Result<()> {
        out.append(&mut self.0.finish()?);
        Ok(())
    }
}

#[cfg(feature = "zstd")]
struct Zstandard(zstd::stream::write::Encoder<'static, Vec<u8>>);

#[cfg(feature = "zstd")]
impl Squeeze for Zstandard {
    fn squeeze(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.0.write_all(bytes)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> io::Result<()> {
        out.append(&mut self.0.finish()?);
        Ok(())
    }
}
