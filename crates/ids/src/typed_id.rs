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

            /// Reads the UUID without its prefix, with or without dashes, for protocols that
            /// have ids of that form.
            pub fn parse_uuid(text: &str) -> Result<Self, ParseIdError> {
                let uuid = Uuid::try_parse(text).ok().filter(is_ours);
                uuid.map(Self).ok_or(ParseIdError { prefix: $prefix })
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
    /// An API token, by which it is listed and revoked. The token itself is no id.
    TokenId = "tok";
    /// Bytes that a workspace uploaded.
    ObjectId = "obj";
    /// A function's definition.
    StubId = "stub";
    /// One call of a function.
    TaskId = "task";
    /// A machine that runs containers.
    WorkerId = "wkr";
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
    Uuid::try_parse(digits).ok().filter(is_ours)
}

fn is_ours(uuid: &Uuid) -> bool {
    uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122
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

    #[test]
    fn bare_uuids_are_read_where_a_protocol_has_them() {
        let id = TaskId::new();
        for text in [id.uuid().to_string(), id.uuid().as_simple().to_string()] {
            assert_eq!(TaskId::parse_uuid(&text), Ok(id));
        }
        let random = "9f3c2a51-7b1e-4d7a-8f60-1c2d3e4f5a6b";
        for text in ["", "7", random, &id.to_string()] {
            assert!(TaskId::parse_uuid(text).is_err(), "{text:?}");
        }
    }
}
