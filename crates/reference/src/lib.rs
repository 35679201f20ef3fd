//! Image names: the grammar, and what it leaves open, decided.
//!
//! ```text
//! reference  = [ "docker://" | "oci://" ] name [ ":" tag ] [ "@" digest ]
//! name       = [ registry "/" ] path
//! registry   = host [ ":" port ]
//! host       = label *( "." label ) | "[" ipv6 "]"
//! label      = letter-or-digit [ *( letter-or-digit | "-" ) letter-or-digit ]
//! port       = 1 to 65535
//! path       = part *( "/" part )                            at most 255 characters
//! part       = alnum *( separator alnum )      alnum = 1*( "a"-"z" | "0"-"9" )
//! separator  = "." | "_" | "__" | 1*"-"
//! tag        = ( letter-or-digit | "_" ) 0*127( letter-or-digit | "_" | "." | "-" )
//! digest     = "sha256:" 64 hex | "sha512:" 128 hex          lower-case hex
//! ```
//!
//! ASCII only. The first part of a name with a slash is a registry when it is `localhost`, holds
//! a `.` or a `:`, or has an upper-case letter; otherwise the registry is Docker Hub. A name
//! without a slash is always one of Docker Hub's. Docker Hub's names (`docker.io`,
//! `index.docker.io`, `registry-1.docker.io`) are one family. Nothing is guessed when parsing
//! fails. `docs/reference.md` lists where we differ from others.
//!
//! No I/O: whether a registry exists is not asked here.

mod digest;
mod error;
mod parse;
mod registry;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

pub use digest::Digest;
pub use error::ParseReferenceError;
pub use registry::Registry;

/// A parsed image name. Two are equal when a pull would ask for the same thing.
#[derive(Clone)]
pub struct Reference {
    typed: String,
    registry: Registry,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a pull asks for in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    Tag(String),
    Digest(Digest),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => f.write_str(digest.as_str()),
        }
    }
}

impl Reference {
    /// Reads an image name as a person types it.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        let parts = parse::parse(text)?;
        Ok(Self {
            typed: text.to_owned(),
            registry: parts.registry,
            repository: parts.repository,
            tag: parts.tag,
            digest: parts.digest,
        })
    }

    /// The name as it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The path in the registry, with Docker Hub's implied `library/`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The digest where there is one, else the tag, else `latest`.
    pub fn selector(&self) -> Selector {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Selector::Digest(digest.clone()),
            (None, Some(tag)) => Selector::Tag(tag.clone()),
            (None, None) => Selector::Tag("latest".to_owned()),
        }
    }

    /// What a pull uses: registry, repository, and the digest or else the tag.
    pub fn canonical(&self) -> String {
        let (registry, repository) = (&self.registry, &self.repository);
        match self.selector() {
            Selector::Digest(digest) => format!("{registry}/{repository}@{digest}"),
            Selector::Tag(tag) => format!("{registry}/{repository}:{tag}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({})", self.canonical())
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.registry == other.registry
            && self.repository == other.repository
            && self.selector() == other.selector()
    }
}

impl Eq for Reference {}

impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.registry.hash(state);
        self.repository.hash(state);
        self.selector().hash(state);
    }
}
