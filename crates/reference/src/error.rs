//! Why a text is not an image name. Messages never repeat the text: it may hold a password.

use crate::digest::ParseDigestError;
use crate::image_name::{TAG_LIMIT, TEXT_LIMIT};
use crate::registry::ParseRegistryError;
use crate::repository::ParseRepositoryError;

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    #[error("image name is empty")]
    Empty,
    #[error("image name is longer than {TEXT_LIMIT} bytes")]
    TooLong,
    #[error("image name starts with a scheme that is not docker:// or oci://")]
    Scheme,
    #[error("64 hexadecimal digits are an image id, not an image name")]
    ImageId,
    #[error(transparent)]
    Registry(#[from] ParseRegistryError),
    #[error(transparent)]
    Repository(#[from] ParseRepositoryError),
    #[error("tag is empty")]
    EmptyTag,
    #[error("tag is longer than {TAG_LIMIT} bytes")]
    TagTooLong,
    #[error("character {character:?} is not allowed there in a tag")]
    Tag { character: char },
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

impl ParseReferenceError {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Scheme => Some("write registry/repository:tag, without https:// or http://"),
            Self::ImageId => Some("to name an image by digest, write repository@sha256:…"),
            Self::Repository(ParseRepositoryError::UpperCase) => {
                Some("registries store repositories in lower case only; write it in lower case")
            }
            Self::Registry(ParseRegistryError::Character { character: '_' }) => {
                Some("a host has no '_'; for a path on Docker Hub put docker.io/ in front")
            }
            Self::Registry(ParseRegistryError::NotIpv6) => {
                Some("write an IPv6 registry as [2001:db8::1]:5000, without a zone")
            }
            Self::Digest(ParseDigestError::NotLowerHex) => Some("write the digest in lower case"),
            _ => None,
        }
    }
}
