//! Manifests that say something about another one, their subject: how they stand in a list, and the tag of that list where a
//! registry has no other (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").

use crate::spec::{Descriptor, Digest, Manifest, Tag};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::{ImageManifest, Index, MediaType};

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
}
