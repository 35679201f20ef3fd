//! The grammar of the crate doc, read from right to left: digest, tag, registry, path.

use crate::digest::Digest;
use crate::error::ParseReferenceError;
use crate::registry::Registry;

/// A path's limit in the distribution specification.
const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Host, port, path, tag and the longest digest fit well inside; longer input is no name.
const TEXT_MAX: usize = 1024;

/// What a name is made of.
pub(crate) struct Parts {
    pub(crate) registry: Registry,
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

pub(crate) fn parse(text: &str) -> Result<Parts, ParseReferenceError> {
    if text.len() > TEXT_MAX {
        return Err(ParseReferenceError::TooLong { max: TEXT_MAX });
    }
    if let Some(character) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(ParseReferenceError::Character { character });
    }
    let text = strip_transport(text)?;
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
        None => (text, None),
    };
    let (name, tag) = split_tag(rest)?;
    let (registry, path) = split_registry(name)?;
    let repository = repository(&registry, path)?;
    if tag.is_none() && digest.is_none() && is_bare_digest(name) {
        return Err(ParseReferenceError::BareDigest);
    }
    Ok(Parts {
        registry,
        repository,
        tag,
        digest,
    })
}

/// `docker://` and `oci://` say how to fetch and are dropped; other schemes are not ours.
fn strip_transport(text: &str) -> Result<&str, ParseReferenceError> {
    let rest = ["docker://", "oci://"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    if let Some(rest) = rest {
        return Ok(rest);
    }
    match text.split_once("://") {
        Some((scheme, _)) => Err(ParseReferenceError::Scheme {
            scheme: scheme.to_owned(),
        }),
        None => Ok(text),
    }
}

/// A colon after the last slash starts a tag; an earlier one belongs to the registry.
fn split_tag(text: &str) -> Result<(&str, Option<String>), ParseReferenceError> {
    let path_start = text.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = text[path_start..].find(':') else {
        return Ok((text, None));
    };
    let (name, tag) = (&text[..path_start + colon], &text[path_start + colon + 1..]);
    if is_tag(tag) {
        Ok((name, Some(tag.to_owned())))
    } else {
        Err(ParseReferenceError::Tag {
            tag: tag.to_owned(),
        })
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().is_some_and(word);
    first && tag.len() <= TAG_MAX && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

fn split_registry(name: &str) -> Result<(Registry, &str), ParseReferenceError> {
    if name.is_empty() {
        return Err(ParseReferenceError::Empty);
    }
    match name.split_once('/') {
        Some(("", _)) => Err(ParseReferenceError::EmptyHost),
        Some((first, path)) if is_registry(first) => Ok((Registry::parse(first)?, path)),
        _ => Ok((Registry::docker_hub(), name)),
    }
}

fn is_registry(first: &str) -> bool {
    let telling = |byte: u8| matches!(byte, b'.' | b':') || byte.is_ascii_uppercase();
    first == "localhost" || first.bytes().any(telling)
}

fn repository(registry: &Registry, path: &str) -> Result<String, ParseReferenceError> {
    if path.is_empty() {
        return Err(ParseReferenceError::EmptyRepository);
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ParseReferenceError::UpperCase {
            repository: path.to_owned(),
        });
    }
    if let Some(part) = path.split('/').find(|part| !is_path_part(part)) {
        return Err(ParseReferenceError::PathPart {
            part: part.to_owned(),
        });
    }
    let library = registry.is_docker_hub() && !path.contains('/');
    let path = if library {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if path.len() > PATH_MAX {
        return Err(ParseReferenceError::RepositoryTooLong { max: PATH_MAX });
    }
    Ok(path)
}

/// Runs of letters and digits, joined by one of the separators.
fn is_path_part(part: &str) -> bool {
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [part.bytes().next(), part.bytes().next_back()];
    edges.iter().all(|byte| byte.is_some_and(alnum))
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(is_separator)
}

/// The empty separator stands between neighbouring letters.
fn is_separator(text: &str) -> bool {
    matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

/// 64 hex digits are an image id, which no registry can resolve.
fn is_bare_digest(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
