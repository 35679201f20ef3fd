//! `holdfast reference IMAGE`: how an image name is read.

use reference::Reference;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::output::Output;

#[derive(Debug, Serialize)]
struct Parts {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
    canonical: String,
}

pub(crate) fn reference(image: &str, output: Output) -> Result<()> {
    let parsed = parse(image)?;
    let parts = Parts {
        registry: parsed.registry().as_str().to_owned(),
        repository: parsed.repository().to_owned(),
        tag: parsed.tag().map(str::to_owned),
        digest: parsed.digest().map(ToString::to_string),
        canonical: parsed.canonical(),
    };
    output.show(&parts, |parts| {
        let absent = || "-".to_owned();
        format!(
            "registry    {}\nrepository  {}\ntag         {}\ndigest      {}\ncanonical   {}",
            parts.registry,
            parts.repository,
            parts.tag.clone().unwrap_or_else(absent),
            parts.digest.clone().unwrap_or_else(absent),
            parts.canonical,
        )
    })
}

/// Reads an image name that a user typed.
pub(crate) fn parse(image: &str) -> Result<Reference> {
    Reference::parse(image).map_err(|error| {
        Failure::invalid(format!("image {image:?}: {error}"))
            .hint("write it as registry/repository:tag or registry/repository@sha256:…")
    })
}
