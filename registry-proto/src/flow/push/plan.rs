//! What has to go where: worked out before the first byte is sent.

use std::borrow::Cow;

use crate::archive::{Archive, ArchiveImage};
use crate::error::Error;
use crate::flow::choose::{check_platform, choose};
use crate::flow::deliver::Target;
use crate::session::Session;
use crate::spec::{Platform, Reference, Repository, Tag};

/// Where the images of an archive go.
///
/// ```
/// use registry_proto::flow::Destination;
///
/// let one_image = Destination::Reference("registry.example.org/team/app:v1".parse()?);
/// let all_of_them = Destination::Below("registry.example.org/mirror".to_owned());
/// # drop((one_image, all_of_them));
/// # Ok::<(), registry_proto::spec::ReferenceError>(())
/// ```
#[derive(Clone, Debug)]
pub enum Destination {
    /// The archive's only image (or the one that [`PushOptions::image`] names) to this reference.
    Reference(Reference),
    /// Every image to each of the tags that the archive has for it.
    OriginalTags,
    /// As [`OriginalTags`](Destination::OriginalTags), but below this repository: with `localhost:5000/mirror`,
    /// `busybox:1` and `quay.io/org/app:2` go to `localhost:5000/mirror/busybox:1` and `localhost:5000/mirror/org/app:2`.
    Below(String),
}

/// What to push of an archive.
///
/// ```
/// use registry_proto::flow::PushOptions;
///
/// let mut options = PushOptions::default();
/// options.image = Some("app:v1".to_owned());
/// options.platform = Some("linux/arm64".parse()?);
/// # Ok::<(), registry_proto::spec::PlatformError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PushOptions {
    /// Only the image with this name (as the archive has it) or root digest.
    pub image: Option<String>,
    /// Of images for several platforms, only the one for this platform: it gets the name, and its own digest. An image that is for
    /// another platform alone is refused.
    pub platform: Option<Platform>,
}

/// Works out the targets: which image goes to which repositories, under which tags.
pub(crate) fn targets(
    session: &Session,
    archive: &Archive,
    to: &Destination,
    options: &PushOptions,
) -> Result<Vec<Target>, Error> {
    let selected = selected(archive, options)?;
    let images: Vec<&ArchiveImage> = selected.iter().map(|image| &**image).collect();
    let mut wanted: Vec<(Repository, Option<Tag>, &ArchiveImage)> = Vec::new();
    match to {
        Destination::Reference(reference) => {
            let [image] = images[..] else {
                return Err(Error::Misuse(format!(
                    "{} holds {} images ({}): say which one goes to {reference}, or push them under their own tags",
                    archive.path().display(),
                    images.len(),
                    names(&images)
                )));
            };
            let root = image.root().digest();
            if reference.digest().is_some_and(|digest| digest != root) {
                return Err(Error::Misuse(format!("{reference} names a digest, but the archive's image is {root}")));
            }
            let tag = match (reference.tag(), reference.digest()) {
                (Some(tag), _) => Some(tag.clone()),
                (None, Some(_)) => None,
                (None, None) => Some(Tag::latest()),
            };
            wanted.push((reference.repository().clone(), tag, image));
        }
        Destination::OriginalTags | Destination::Below(_) => {
            for image in images {
                wanted.extend(original(archive, image, to)?.into_iter().map(|(to, tag)| (to, Some(tag), image)));
            }
        }
    }
    grouped(session, wanted)
}

/// The images that are meant, as much of each as is meant.
fn selected<'a>(archive: &'a Archive, options: &PushOptions) -> Result<Vec<Cow<'a, ArchiveImage>>, Error> {
    let named = named(archive, options)?.into_iter();
    match &options.platform {
        None => Ok(named.map(Cow::Borrowed).collect()),
        Some(platform) => named.map(|image| for_platform(image, platform)).collect(),
    }
}

fn for_platform<'a>(image: &'a ArchiveImage, platform: &Platform) -> Result<Cow<'a, ArchiveImage>, Error> {
    let name = names(&[image]);
    let Some(index) = image.root().index() else {
        let only = image.config().map(|config| config.platform());
        return only.map_or(Ok(()), |only| check_platform(&only, platform, &name)).map(|()| Cow::Borrowed(image));
    };
    let found = choose(index, platform, &name)?;
    let only = image.only(&found.digest).ok_or_else(|| {
        Error::Unsuitable(format!("{name}: the archive lists an image for {platform}, but does not hold it"))
    })?;
    Ok(Cow::Owned(only))
}

fn named<'a>(archive: &'a Archive, options: &PushOptions) -> Result<Vec<&'a ArchiveImage>, Error> {
    let Some(wanted) = &options.image else { return Ok(archive.images().iter().collect()) };
    let found: Vec<_> = archive
        .images()
        .iter()
        .filter(|image| {
            image.root().digest().as_str() == wanted || image.names().iter().any(|name| name.as_written() == wanted)
        })
        .collect();
    if found.is_empty() {
        let all: Vec<_> = archive.images().iter().collect();
        return Err(Error::Unsuitable(format!(
            "{} holds no image `{wanted}`; it holds {}",
            archive.path().display(),
            names(&all)
        )));
    }
    Ok(found)
}

/// The tags that an archive has for an image, each with its repository.
fn original(archive: &Archive, image: &ArchiveImage, to: &Destination) -> Result<Vec<(Repository, Tag)>, Error> {
    let mut found = Vec::new();
    for name in image.names() {
        let Some(reference) = name.reference() else {
            return Err(Error::Unsuitable(format!(
                "{}: `{}` names a tag but no repository: give a reference that it shall go to",
                archive.path().display(),
                name.as_written()
            )));
        };
        let tag = reference.tag().cloned().unwrap_or_else(Tag::latest);
        let repository = match to {
            Destination::Below(prefix) => below(prefix, reference)?,
            Destination::Reference(_) | Destination::OriginalTags => reference.repository().clone(),
        };
        found.push((repository, tag));
    }
    if found.is_empty() {
        return Err(Error::Unsuitable(format!(
            "{}: image {} has no tag: give a reference that it shall go to",
            archive.path().display(),
            image.root().digest()
        )));
    }
    Ok(found)
}

fn below(prefix: &str, reference: &Reference) -> Result<Repository, Error> {
    let path = reference.repository().familiar_path();
    // A bare host is a prefix, too; the slash tells it from a Docker Hub repository.
    let text = format!("{}/{path}", prefix.trim_end_matches('/'));
    text.parse::<Reference>()
        .map(|reference| reference.repository().clone())
        .map_err(|why| Error::Misuse(format!("`{text}` is no repository: {why}")))
}

fn grouped(session: &Session, wanted: Vec<(Repository, Option<Tag>, &ArchiveImage)>) -> Result<Vec<Target>, Error> {
    let mut targets: Vec<Target> = Vec::new();
    for (repository, tag, image) in wanted {
        let known = targets
            .iter_mut()
            .find(|target| target.repository == repository && target.root.digest() == image.root().digest());
        let target = match known {
            Some(target) => target,
            None => {
                let origin = session
                    .origin(repository.registry())
                    .ok_or_else(|| Error::Misuse(format!("`{}` is no address of a registry", repository.registry())))?;
                targets.push(Target {
                    repository,
                    origin,
                    root: image.root().clone(),
                    tags: Vec::new(),
                    attached: false,
                    manifests: image.manifests().to_vec(),
                    blobs: image.blob_digests(),
                });
                targets.last_mut().expect("one was just pushed")
            }
        };
        if let Some(tag) = tag
            && !target.tags.contains(&tag)
        {
            target.tags.push(tag);
        }
    }
    Ok(targets)
}

fn names(images: &[&ArchiveImage]) -> String {
    let names: Vec<String> = images
        .iter()
        .map(|image| {
            image.names().first().map_or_else(|| image.root().digest().to_string(), |name| name.as_written().to_owned())
        })
        .take(10)
        .collect();
    names.join(", ")
}
