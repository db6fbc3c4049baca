//! Profiles that behave like registries that people use.
//!
//! Each is a registry of distribution's with the differences that were seen or documented (PROTOCOL §5, by number). They
//! are for trying a client against every kind of behaviour, not for finding out what a vendor's service does today.

use http::StatusCode;

use super::profile::{LocationStyle, Mount, Profile, RangeDialect, Referrers, StaleState, Support};
use crate::spec::MediaType;

impl Profile {
    /// All that are here, and distribution's two, by name.
    pub fn vendors() -> [(&'static str, Self); 12] {
        [
            ("distribution 2.8", Self::distribution_2_8()),
            ("distribution 3", Self::distribution_3()),
            ("Amazon ECR", Self::ecr()),
            ("GHCR", Self::ghcr()),
            ("Google Artifact Registry", Self::gar()),
            ("Azure ACR", Self::acr()),
            ("Quay", Self::quay()),
            ("Harbor", Self::harbor()),
            ("Artifactory", Self::artifactory()),
            ("GitLab", Self::gitlab()),
            ("Cloudflare", Self::cloudflare()),
            ("zot", Self::zot()),
        ]
    }

    /// Amazon ECR: chunks of 5 MiB at least, answered with 201 and a `Range` that never grows; no empty `PUT` at the end; no
    /// digest told; repositories have to exist (Q10 to Q14, Q18, Q20).
    pub fn ecr() -> Self {
        Self {
            chunk_min: Some(5 << 20),
            chunk_status: StatusCode::CREATED,
            empty_end: false,
            range: RangeDialect::Frozen,
            keep_partial: false,
            tells_digest: false,
            absent_head: StatusCode::BAD_REQUEST,
            creates_repositories: false,
            catalog: Support::No(StatusCode::METHOD_NOT_ALLOWED),
            delete: Support::Yes,
            delete_tags: true,
            ..Self::distribution_3()
        }
    }

    /// GHCR: chunks of more than 4 MiB get 416, uploads can't be given up, there is no catalog and nothing to delete by
    /// (Q25 to Q27).
    pub fn ghcr() -> Self {
        Self {
            chunk_max: Some(4 << 20),
            chunk_max_status: StatusCode::RANGE_NOT_SATISFIABLE,
            cancel: Support::NOT_ALLOWED,
            catalog: Support::NOT_FOUND,
            tag_page: Some(100),
            ..Self::distribution_3()
        }
    }

    /// Google Artifact Registry: no chunks, places without a host, lists of tags in one piece whatever is asked (Q31, Q32, Q35a).
    pub fn gar() -> Self {
        Self {
            patch: Support::NOT_ALLOWED,
            location: LocationStyle::Path,
            location_state: false,
            keep_partial: false,
            paginates_tags: false,
            tag_page: None,
            catalog: Support::NOT_FOUND,
            delete: Support::Yes,
            referrers: Referrers::Listed,
            ..Self::distribution_3()
        }
    }

    /// Azure ACR: an upload that was cut can't go on, not even be asked about (Q38, Q40).
    pub fn acr() -> Self {
        Self {
            keep_partial: false,
            stale_state: StaleState::LosesSession,
            location: LocationStyle::Path,
            delete: Support::Yes,
            referrers: Referrers::Listed,
            ..Self::distribution_3()
        }
    }

    /// Quay: its own ways of telling how much it has, and no `Docker-Content-Digest` to rely on (Q41, Q48).
    pub fn quay() -> Self {
        Self {
            range: RangeDialect::Exclusive,
            location: LocationStyle::Path,
            location_state: false,
            delete: Support::Yes,
            referrers: Referrers::Listed,
            tag_page: Some(50),
            ..Self::distribution_3()
        }
    }

    /// Harbor: distribution 2.8 with more around it; it refuses mounts from projects that it doesn't know with 401 (Q51).
    pub fn harbor() -> Self {
        Self {
            mount: Mount::Refused(StatusCode::UNAUTHORIZED),
            delete: Support::Yes,
            delete_tags: true,
            paginates_tags: true,
            referrers: Referrers::Listed,
            converts_to_schema1: false,
            ..Self::distribution_2_8()
        }
    }

    /// Artifactory: 403 to `HEAD` of a manifest that is not there, no digests told, pages of its own (Q56, Q61, Q63, Q65).
    pub fn artifactory() -> Self {
        Self {
            absent_head: StatusCode::FORBIDDEN,
            tells_digest: false,
            mount: Mount::Ignored,
            paginates_tags: false,
            tag_page: None,
            delete: Support::Yes,
            ..Self::distribution_3()
        }
    }

    /// GitLab: a tag that looks like a digest leads to what has it; mounts without a token for the source get 401 (Q68, Q70).
    pub fn gitlab() -> Self {
        Self {
            digests_as_tags: true,
            mount: Mount::Refused(StatusCode::UNAUTHORIZED),
            delete: Support::Yes,
            catalog: Support::No(StatusCode::UNAUTHORIZED),
            ..Self::distribution_3()
        }
    }

    /// A registry behind Cloudflare: bodies of up to 100 MB, chunks of 5 MiB to 100 MB, `0--1` for nothing (Q71 to Q73).
    pub fn cloudflare() -> Self {
        Self {
            max_body: Some(100_000_000),
            chunk_min: Some(5 << 20),
            chunk_max: Some(100_000_000),
            chunk_max_status: StatusCode::PAYLOAD_TOO_LARGE,
            range: RangeDialect::MinusOne,
            mount: Mount::Ignored,
            ..Self::distribution_3()
        }
    }

    /// zot: a cut chunk ends the session, `Range` is the last chunk's, Docker's own types get 415 (Q76 to Q79).
    pub fn zot() -> Self {
        Self {
            keep_partial: false,
            range: RangeDialect::ChunkLocal,
            location: LocationStyle::Path,
            location_state: false,
            single_post: true,
            delete: Support::Yes,
            referrers: Referrers::Listed,
            refused_media_types: vec![MediaType::DOCKER_MANIFEST, MediaType::DOCKER_MANIFEST_LIST],
            ..Self::distribution_3()
        }
    }
}
