//! A host folder or file shown inside a container: `SRC:DST[:ro]`.
//!
//! A source is a path: absolute, or starting with `./` or `../`. Named volumes and options other
//! than `ro` and `rw` are refused by name. Whether the source exists is asked when the container
//! starts; nothing is ever created on the host.

use std::path::{Component, Path, PathBuf};

/// One bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// On the host; relative only when it was typed so.
    pub source: PathBuf,
    /// In the container: absolute, without `.` and `..`, not `/`.
    pub target: PathBuf,
    /// Whether the container may only read, in everything mounted below the source too.
    pub read_only: bool,
}

/// Why a text is no volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseVolumeError {
    /// Not `SRC:DST` or `SRC:DST:OPTION`.
    #[error("volume `{0}` is not of the form SRC:DST or SRC:DST:ro")]
    Form(String),
    /// A name where a path belongs.
    #[error("volume source `{0}` is not a path: named volumes are not supported, write ./{0}")]
    NamedVolume(String),
    /// A target that cannot be mounted on.
    #[error("volume target `{0}` is not an absolute path below /")]
    Target(String),
    /// A target that belongs to the runtime.
    #[error("volume target `{0}` is inside /proc, which cannot be mounted over")]
    Reserved(String),
    /// An option of another tool.
    #[error("volume option `{0}` is not supported, only ro and rw are")]
    Option(String),
}

impl Volume {
    /// Reads `SRC:DST[:ro|rw]`.
    pub fn parse(text: &str) -> Result<Self, ParseVolumeError> {
        let form = || ParseVolumeError::Form(text.to_owned());
        let mut parts = text.split(':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
            return Err(form());
        };
        let option = parts.next();
        if source.is_empty() || target.is_empty() || parts.next().is_some() || text.contains('\0') {
            return Err(form());
        }
        let is_path = ["/", "./", "../"]
            .iter()
            .any(|start| source.starts_with(start));
        if !is_path && source != "." && source != ".." {
            return Err(ParseVolumeError::NamedVolume(source.to_owned()));
        }
        Ok(Self {
            source: PathBuf::from(source),
            target: parse_target(target)?,
            read_only: parse_option(option)?,
        })
    }
}

fn parse_option(option: Option<&str>) -> Result<bool, ParseVolumeError> {
    match option {
        None | Some("rw") => Ok(false),
        Some("ro") => Ok(true),
        Some(other) => Err(ParseVolumeError::Option(other.to_owned())),
    }
}

fn parse_target(text: &str) -> Result<PathBuf, ParseVolumeError> {
    let refused = || ParseVolumeError::Target(text.to_owned());
    if !text.starts_with('/') {
        return Err(refused());
    }
    let mut target = PathBuf::from("/");
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    if target == Path::new("/") {
        return Err(refused());
    }
    if target.starts_with("/proc") {
        return Err(ParseVolumeError::Reserved(text.to_owned()));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match Volume::parse(text) {
            Ok(volume) => format!(
                "{} -> {}{}",
                volume.source.display(),
                volume.target.display(),
                if volume.read_only { " ro" } else { "" }
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn volumes() {
        let table = [
            ("/a:/b", "/a -> /b"),
            ("/a:/b:ro", "/a -> /b ro"),
            ("/a:/b:rw", "/a -> /b"),
            ("./a:/b/./c//d/", "./a -> /b/c/d"),
            ("..:/b", ".. -> /b"),
            (".:/b", ". -> /b"),
            ("/a", "volume `/a` is not of the form SRC:DST or SRC:DST:ro"),
            (
                ":/b",
                "volume `:/b` is not of the form SRC:DST or SRC:DST:ro",
            ),
            (
                "/a:",
                "volume `/a:` is not of the form SRC:DST or SRC:DST:ro",
            ),
            (
                "/a:/b:ro:x",
                "volume `/a:/b:ro:x` is not of the form SRC:DST or SRC:DST:ro",
            ),
            (
                "/a:/b:z",
                "volume option `z` is not supported, only ro and rw are",
            ),
            (
                "data:/b",
                "volume source `data` is not a path: named volumes are not supported, write ./data",
            ),
            ("/a:b", "volume target `b` is not an absolute path below /"),
            ("/a:/", "volume target `/` is not an absolute path below /"),
            (
                "/a:/b/../c",
                "volume target `/b/../c` is not an absolute path below /",
            ),
            (
                "/a:/proc/x",
                "volume target `/proc/x` is inside /proc, which cannot be mounted over",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
