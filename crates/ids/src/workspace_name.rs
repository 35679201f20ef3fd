//! The name of a workspace: a lower-case slug, `default` where nobody chose one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name: that of a DNS label, so that a name fits wherever one is needed.
const LENGTH_LIMIT: usize = 63;

/// A workspace's name, as people type it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct WorkspaceName(String);

/// Why a text is not a workspace's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "workspace name must be 1 to {LENGTH_LIMIT} lower-case letters, digits and dashes, with a \
     letter or digit at both ends"
)]
pub struct ParseWorkspaceNameError;

impl WorkspaceName {
    pub fn parse(text: &str) -> Result<Self, ParseWorkspaceNameError> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let edge = |byte: Option<&u8>| byte.copied().is_some_and(word);
        let bytes = text.as_bytes();
        let allowed = bytes.iter().all(|byte| word(*byte) || *byte == b'-');
        if allowed && edge(bytes.first()) && edge(bytes.last()) && bytes.len() <= LENGTH_LIMIT {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseWorkspaceNameError)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for WorkspaceName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for WorkspaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for WorkspaceName {
    type Err = ParseWorkspaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<WorkspaceName> for String {
    fn from(name: WorkspaceName) -> Self {
        name.0
    }
}

impl TryFrom<String> for WorkspaceName {
    type Error = ParseWorkspaceNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "a".repeat(LENGTH_LIMIT);
        for name in ["default", "a", "0", "team-7", "a--b", longest.as_str()] {
            assert_eq!(WorkspaceName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(LENGTH_LIMIT + 1);
        for name in [
            "",
            "-",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "a/b",
            "\u{e9}",
            long.as_str(),
        ] {
            assert!(WorkspaceName::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(WorkspaceName::default().to_string(), "default");
        assert!(serde_json::from_str::<WorkspaceName>("\"Not A Slug\"").is_err());
    }
}
