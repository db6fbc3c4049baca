//! Manifests that say something about another one, their subject: how they stand in a list, and the tag of that list where a
//! registry has no other (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").

use std::collections::BTreeMap;

use serde_json::Value;

use crate::spec::{Descriptor, Digest, Index, Manifest, ManifestError, Tag};

/// The longest algorithm and the longest hash in a tag, in characters.
const LONGEST: (usize, usize) = (32, 64);

impl Manifest {
    /// The manifest that this one says something about. It need not be there.
    pub fn subject(&self) -> Option<&Descriptor> {
        match (self.image(), self.index()) {
            (Some(image), _) => image.subject.as_ref(),
            (_, Some(index)) => index.subject.as_ref(),
            _ => None,
        }
    }

    /// A pointer to it as it stands in a list of referrers: with its annotations and the type of artifact, which is that of the
    /// configuration where an image says nothing else.
    pub fn referrer(&self) -> Descriptor {
        let (artifact_type, annotations) = match (self.image(), self.index()) {
            (Some(image), _) => {
                (image.artifact_type.clone().or_else(|| Some(image.config.media_type.clone())), &image.annotations)
            }
            (_, Some(index)) => (index.artifact_type.clone(), &index.annotations),
            _ => return self.descriptor(),
        };
        Descriptor { artifact_type, annotations: annotations.clone(), ..self.descriptor() }
    }
}

impl Tag {
    /// The tag whose index lists a manifest's referrers where the registry doesn't do so itself.
    ///
    /// ```
    /// use registry_proto::spec::{Digest, Tag};
    ///
    /// let digest: Digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
    /// assert_eq!(
    ///     Tag::of_referrers(&digest).as_str(),
    ///     "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    /// );
    /// # Ok::<(), registry_proto::spec::DigestError>(())
    /// ```
    pub fn of_referrers(subject: &Digest) -> Self {
        let part = |text: &str, longest: usize| -> String {
            let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
            text.chars().take(longest).map(fits).collect()
        };
        let text = format!("{}-{}", part(subject.algorithm_name(), LONGEST.0), part(subject.encoded(), LONGEST.1));
        text.parse().expect("an algorithm starts with a letter or digit, and 97 characters are no more than 128")
    }
}

/// A list with some entries more, where they are not on it yet, and without others. `None`: that changes nothing.
///
/// Others write on it, too: whatever they have said about their entries stays, also what is not known here.
///
/// # Errors
/// When the result can't be read again.
pub(crate) fn relist(
    list: Option<&Manifest>,
    add: &[Descriptor],
    remove: &[Digest],
) -> Result<Option<Manifest>, ManifestError> {
    let json = |why: serde_json::Error| ManifestError::Json(why.to_string());
    let Some(list) = list else {
        let manifests = add.to_vec();
        let index =
            Index { media_type: None, artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() };
        return Ok((!add.is_empty()).then(|| index.to_manifest()));
    };
    let mut document: Value = serde_json::from_slice(list.bytes()).map_err(json)?;
    let mut entries = match document.get_mut("manifests").map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let before = entries.len();
    let names = |entry: &Value, digest: &Digest| entry.get("digest").and_then(Value::as_str) == Some(digest.as_str());
    entries.retain(|entry| !remove.iter().any(|digest| names(entry, digest)));
    let fewer = entries.len() < before;
    let more: Vec<_> = add.iter().filter(|one| !entries.iter().any(|entry| names(entry, &one.digest))).collect();
    if more.is_empty() && !fewer {
        return Ok(None);
    }
    for one in more {
        entries.push(serde_json::to_value(one).map_err(json)?);
    }
    document["manifests"] = Value::Array(entries);
    let bytes = serde_json::to_vec(&document).map_err(json)?;
    Manifest::parse(bytes.into(), Some(list.media_type().as_str()), None).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ImageManifest, MediaType};

    #[test]
    fn tags() {
        let tag = |digest: &str| Tag::of_referrers(&digest.parse().unwrap()).to_string();
        let (a64, a128) = ("a".repeat(64), "a".repeat(128));
        assert_eq!(tag(&format!("sha256:{a64}")), format!("sha256-{a64}"));
        assert_eq!(tag(&format!("sha512:{a128}")), format!("sha512-{a64}"));
        assert_eq!(tag("sha256+b64:abc=_-"), "sha256-b64-abc-_-");
        assert_eq!(
            tag(
                "test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExerciseEncodedTruncation"
            ),
            "test-algorithm-using-algorithm-s-alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot"
        );
    }

    #[test]
    fn how_they_stand_in_a_list() {
        let about = Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(b"about"), 5);
        let mut image = ImageManifest {
            media_type: None,
            artifact_type: None,
            config: Descriptor::new(MediaType::new("application/vnd.example.config"), Digest::of(b"{}"), 2),
            layers: Vec::new(),
            subject: Some(about.clone()),
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let manifest = image.to_manifest();
        let listed = manifest.referrer();
        assert_eq!(manifest.subject(), Some(&about));
        assert_eq!((&listed.digest, listed.size), (manifest.digest(), manifest.size()));
        assert_eq!(listed.artifact_type, Some(MediaType::new("application/vnd.example.config")));
        assert_eq!(listed.annotations, image.annotations);
        image.artifact_type = Some(MediaType::new("application/vnd.example.artifact"));
        assert_eq!(image.to_manifest().referrer().artifact_type, image.artifact_type);

        let index = Index {
            media_type: None,
            artifact_type: None,
            manifests: Vec::new(),
            subject: Some(about.clone()),
            annotations: image.annotations.clone(),
        };
        let listed = index.to_manifest().referrer();
        assert_eq!((listed.artifact_type, listed.annotations), (None, image.annotations));
        assert_eq!(index.to_manifest().subject(), Some(&about));
    }

    #[test]
    fn lists_are_added_to_and_taken_from() {
        let entry = |text: &[u8]| Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(text), 1);
        let names = |list: &Manifest| -> Vec<Digest> {
            list.index().unwrap().manifests.iter().map(|entry| entry.digest.clone()).collect()
        };
        let (a, b) = (entry(b"a"), entry(b"b"));
        assert_eq!(relist(None, &[], std::slice::from_ref(&a.digest)).unwrap(), None);
        let list = relist(None, std::slice::from_ref(&a), &[]).unwrap().unwrap();
        assert_eq!((names(&list), list.media_type()), (vec![a.digest.clone()], &MediaType::OCI_INDEX));
        assert_eq!(relist(Some(&list), std::slice::from_ref(&a), &[]).unwrap(), None, "it is there already");
        let list = relist(Some(&list), &[a.clone(), b.clone()], &[]).unwrap().unwrap();
        assert_eq!(names(&list), [a.digest.clone(), b.digest.clone()]);
        let list = relist(Some(&list), &[], std::slice::from_ref(&a.digest)).unwrap().unwrap();
        assert_eq!(names(&list), std::slice::from_ref(&b.digest));
        assert_eq!(relist(Some(&list), &[], &[a.digest]).unwrap(), None, "it is gone already");
        let list = relist(Some(&list), &[], &[b.digest]).unwrap().unwrap();
        assert_eq!(names(&list), [], "an empty list is one, too");
    }

    #[test]
    fn what_others_have_written_stays() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","x-list":[1.5],
            "manifests":[{{"mediaType":"application/vnd.example","digest":"{a}","size":9,"x-entry":{{"y":null}}}}]}}"#
        );
        let list = Manifest::parse(text.into_bytes().into(), None, None).unwrap();
        let more = relist(Some(&list), &[Descriptor::new(MediaType::OCI_MANIFEST, b, 1)], &[]).unwrap().unwrap();
        let json: Value = serde_json::from_slice(more.bytes()).unwrap();
        assert_eq!((&json["x-list"][0], &json["manifests"][0]["x-entry"]["y"]), (&1.5.into(), &Value::Null));
        assert_eq!(more.index().unwrap().manifests.len(), 2);
        let none = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":null}}"#, MediaType::OCI_INDEX);
        let none = Manifest::parse(none.into_bytes().into(), None, None).unwrap();
        let one = Descriptor::new(MediaType::OCI_MANIFEST, a, 1);
        assert_eq!(relist(Some(&none), &[one], &[]).unwrap().unwrap().index().unwrap().manifests.len(), 1);
    }
}
