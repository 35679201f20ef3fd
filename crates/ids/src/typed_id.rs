//! The ids and the macro that makes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::{Uuid, Variant};

/// Digits of a UUID in its simple form.
const UUID_DIGITS: usize = 32;

/// Why a text is not an id of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("id must be {prefix:?}, a dash and a UUIDv7 in 32 lower-case hexadecimal digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

macro_rules! typed_id {
    ($(#[doc = $doc:literal] $name:ident = $prefix:literal;)+) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the text form starts with, before the dash.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later in order than those before it.
            #[expect(clippy::new_without_default, reason = "two calls give two ids")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID without its prefix.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}-{}", $prefix, self.0.as_simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

typed_id! {
    /// A workspace: the tenant that secrets, images and tasks belong to.
    WorkspaceId = "ws";
    /// A secret in a workspace, over all its versions.
    SecretId = "sec";
    /// What one container may read, and until when.
    LeaseId = "lease";
    /// A workspace's right to run an image.
    GrantId = "grant";
    /// One running container.
    ContainerId = "ctr";
}

fn parse(prefix: &'static str, text: &str) -> Result<Uuid, ParseIdError> {
    let digits = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('-'));
    digits.and_then(parse_uuid).ok_or(ParseIdError { prefix })
}

fn parse_uuid(digits: &str) -> Option<Uuid> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != UUID_DIGITS || !digits.bytes().all(lower_hex) {
        return None;
    }
    let uuid = Uuid::try_parse(digits).ok()?;
    (uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_back() {
        let id = ContainerId::new();
        let text = id.to_string();
        assert!(text.starts_with("ctr-") && text.len() == 36, "{text}");
        assert_eq!(text.parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<ContainerId>(&json).unwrap(), id);
        assert_ne!(ContainerId::new(), id);
        assert!(ContainerId::new() > id);
    }

    #[test]
    fn other_kinds_and_other_forms_are_refused() {
        let uuid = LeaseId::new().uuid();
        let simple = uuid.as_simple().to_string();
        for text in [
            String::new(),
            "lease-".to_owned(),
            simple.clone(),
            uuid.to_string(),
            format!("sec-{simple}"),
            format!("lease_{simple}"),
            format!("lease-{uuid}"),
            format!("lease-{}", simple.to_uppercase()),
            format!("lease-{simple} "),
            format!("lease-{}", "0".repeat(32)),
            format!("lease-{{{}}}", &simple[2..]),
        ] {
            assert!(text.parse::<LeaseId>().is_err(), "{text:?}");
        }
    }
}
