//! Archives of every format, and what must not be taken for one.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::make::{MemoryDisk, SampleImage};
use super::{Archive, ArchiveError, ArchiveFault, Examined, Limits};
use crate::spec::Digest;

mod formats;
mod hostile;
mod layouts;
mod tars;

fn read(content: impl Into<Bytes>) -> Result<Archive, ArchiveError> {
    let path: Arc<Path> = Path::new("x.tar").into();
    Archive::read(&MemoryDisk::with("x.tar", content), &path, &Limits::default())
}

/// The fault, and its text, which has to name the file.
fn fault(content: impl Into<Bytes>) -> (ArchiveFault, String) {
    let error = read(content).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("`x.tar` ") && !text.contains('\n'), "{text}");
    (error.fault().clone(), text)
}

/// Two layers, the second also in other images.
fn two_layers(tags: &[&str]) -> SampleImage {
    SampleImage::new(tags, &[b"the first layer", b"the second layer"])
}

fn digests(image: &SampleImage) -> Vec<Digest> {
    image.layers.iter().map(|layer| Digest::of(layer)).collect()
}

fn written(image: &super::ArchiveImage) -> Vec<&str> {
    image.names().iter().map(super::ImageName::as_written).collect()
}
