//! Why a text is no image name.

/// Each variant is one thing that a person can mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseReferenceError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is longer than {max} characters")]
    TooLong { max: usize },
    #[error("character {character:?} is not allowed in an image name")]
    Character { character: char },
    #[error("an image name takes no {scheme}:// in front")]
    Scheme { scheme: String },
    #[error("the registry host is empty")]
    EmptyHost,
    #[error("{host:?} is not a registry host")]
    Host { host: String },
    #[error("port {port:?} is not between 1 and 65535")]
    Port { port: String },
    #[error("the repository is empty")]
    EmptyRepository,
    #[error("repository {repository:?} must be lower-case")]
    UpperCase { repository: String },
    #[error("{part:?} is not a path part of a repository")]
    PathPart { part: String },
    #[error("the repository is longer than {max} characters")]
    RepositoryTooLong { max: usize },
    #[error("a bare digest is no image name")]
    BareDigest,
    #[error("{tag:?} is not a tag")]
    Tag { tag: String },
    #[error("{digest:?} is not a digest")]
    Digest { digest: String },
}
