//! [`Reference`]: one image name, parsed and normalised. Keeps what was typed beside what it means.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::characters::{is_lower_hex, is_tag_byte};
use crate::digest::Digest;
use crate::error::ParseReferenceError;
use crate::registry::{Registry, looks_like_registry};
use crate::repository::check_repository;

/// Longest image name that is looked at. Host, path, tag and digest with their own limits, a
/// prefix and a generous port stay far below; it bounds work and error values.
pub const TEXT_LIMIT: usize = 2048;
/// Longest tag.
pub(crate) const TAG_LIMIT: usize = 128;

/// Prefixes that other tools put in front of a name, and that add nothing to it.
const PREFIXES: [&str; 2] = ["docker://", "oci://"];
/// Where Docker Hub keeps repositories whose path has one part.
const HUB_LIBRARY: &str = "library/";
/// What is pulled when a name gives neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Digits of an image id, which names nothing in a registry.
const IMAGE_ID_DIGITS: usize = 64;

/// A parsed image name. Equal to another when both mean the same pull.
#[derive(Clone)]
pub struct Reference {
    typed: String,
    registry: Registry,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    canonical: String,
}

/// Which manifest of a repository: what stands last in the manifest's URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// Reads an image name as a user types it.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        if text.len() > TEXT_LIMIT {
            return Err(ParseReferenceError::TooLong);
        }
        let name = strip_prefix(text)?;
        let (registry, rest) = split_registry(name)?;
        let (rest, digest) = split_digest(rest)?;
        let (path, tag) = split_tag(rest)?;
        let repository = normalise_path(&registry, path)?;
        Ok(Self::assemble(
            text.to_owned(),
            registry,
            repository,
            tag,
            digest,
        ))
    }

    fn assemble(
        typed: String,
        registry: Registry,
        repository: String,
        tag: Option<String>,
        digest: Option<Digest>,
    ) -> Self {
        let place = format!("{}/{repository}", registry.canonical());
        let canonical = match (&digest, &tag) {
            (Some(digest), _) => format!("{place}@{digest}"),
            (None, Some(tag)) => format!("{place}:{tag}"),
            (None, None) => format!("{place}:{DEFAULT_TAG}"),
        };
        Self {
            typed,
            registry,
            repository,
            tag,
            digest,
            canonical,
        }
    }

    /// The text this was parsed from.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The path within the registry, with `library/` where Docker Hub has it.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag that was typed, also beside a digest, which then decides alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a pull uses: `registry/repository@digest`, or `registry/repository:tag` with `latest`
    /// for a name that gives neither. Parses back to an equal reference.
    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    /// `registry/repository`, the place that layers are read from.
    pub fn origin(&self) -> String {
        format!("{}/{}", self.registry.canonical(), self.repository)
    }

    /// Which manifest to ask for.
    pub fn selector(&self) -> Selector {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Selector::Digest(digest.clone()),
            (None, Some(tag)) => Selector::Tag(tag.clone()),
            (None, None) => Selector::Tag(DEFAULT_TAG.to_owned()),
        }
    }

    /// The same repository at `digest`, with the tag kept for display.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        let tag = self
            .tag
            .as_ref()
            .map(|tag| format!(":{tag}"))
            .unwrap_or_default();
        let typed = format!("{}{tag}@{digest}", self.origin());
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        Self::assemble(typed, registry, repository, self.tag.clone(), Some(digest))
    }
}

fn strip_prefix(text: &str) -> Result<&str, ParseReferenceError> {
    let name = PREFIXES
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    if name.is_empty() {
        return Err(ParseReferenceError::Empty);
    }
    if name.contains("://") {
        return Err(ParseReferenceError::Scheme);
    }
    if name.len() == IMAGE_ID_DIGITS && name.bytes().all(is_lower_hex) {
        return Err(ParseReferenceError::ImageId);
    }
    Ok(name)
}

fn split_registry(name: &str) -> Result<(Registry, &str), ParseReferenceError> {
    match name.split_once('/') {
        Some((first, rest)) if first.is_empty() || looks_like_registry(first) => {
            Ok((Registry::parse(first)?, rest))
        }
        _ => Ok((Registry::docker_hub(), name)),
    }
}

fn split_digest(rest: &str) -> Result<(&str, Option<Digest>), ParseReferenceError> {
    match rest.split_once('@') {
        Some((rest, digest)) => Ok((rest, Some(Digest::parse(digest)?))),
        None => Ok((rest, None)),
    }
}

fn split_tag(rest: &str) -> Result<(&str, Option<String>), ParseReferenceError> {
    match rest.rsplit_once(':') {
        // A colon in front of a slash belongs to no tag; the path's own check names it.
        Some((path, tag)) if !tag.contains('/') => Ok((path, Some(parse_tag(tag)?))),
        _ => Ok((rest, None)),
    }
}

fn parse_tag(tag: &str) -> Result<String, ParseReferenceError> {
    let first = tag.chars().next().ok_or(ParseReferenceError::EmptyTag)?;
    let refused = |character: &char| !character.is_ascii() || !is_tag_byte(*character as u8);
    let leading = Some(first).filter(|character| matches!(character, '.' | '-'));
    if let Some(character) = leading.or_else(|| tag.chars().find(refused)) {
        return Err(ParseReferenceError::Tag { character });
    }
    if tag.len() > TAG_LIMIT {
        return Err(ParseReferenceError::TagTooLong);
    }
    Ok(tag.to_owned())
}

fn normalise_path(registry: &Registry, path: &str) -> Result<String, ParseReferenceError> {
    // The typed path must be well formed by itself, so that no mistake hides behind `library/`.
    check_repository(path)?;
    if !registry.is_docker_hub() || path.contains('/') {
        return Ok(path.to_owned());
    }
    let path = format!("{HUB_LIBRARY}{path}");
    check_repository(&path)?;
    Ok(path)
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for Reference {}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical.cmp(&other.canonical)
    }
}

impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Reference")
            .field(&self.canonical)
            .finish()
    }
}

/// What was typed.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.typed)
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => formatter.write_str(tag),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}
