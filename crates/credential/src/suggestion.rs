//! "Did you mean": the known key that an unknown one was probably to be. Only for messages; a key
//! is never accepted under another name.

use crate::known_keys::{self, KNOWN_KEYS};

/// Names that other tools have for known keys, and that no count of typing errors leads to.
const OTHER_NAMES: [(&str, &str); 19] = [
    ("AWS_DEFAULT_REGION", known_keys::AWS_REGION),
    ("AWS_ACCESS_KEY", known_keys::AWS_ACCESS_KEY_ID),
    ("AWS_SECRET_KEY", known_keys::AWS_SECRET_ACCESS_KEY),
    ("AWS_SECURITY_TOKEN", known_keys::AWS_SESSION_TOKEN),
    ("GH_TOKEN", known_keys::GITHUB_TOKEN),
    ("GHCR_TOKEN", known_keys::GITHUB_TOKEN),
    ("GITHUB_ACTOR", known_keys::GITHUB_USERNAME),
    ("GITHUB_USER", known_keys::GITHUB_USERNAME),
    ("CI_REGISTRY_USER", known_keys::REGISTRY_USERNAME),
    ("CI_REGISTRY_PASSWORD", known_keys::REGISTRY_PASSWORD),
    (
        "GOOGLE_CREDENTIALS",
        known_keys::GOOGLE_APPLICATION_CREDENTIALS,
    ),
    (
        "SERVICE_ACCOUNT_JSON",
        known_keys::GOOGLE_APPLICATION_CREDENTIALS,
    ),
    ("GOOGLE_OAUTH_ACCESS_TOKEN", known_keys::GCP_ACCESS_TOKEN),
    (
        "AZURE_FEDERATED_TOKEN_FILE",
        known_keys::AZURE_FEDERATED_TOKEN,
    ),
    ("NGC_CLI_API_KEY", known_keys::NGC_API_KEY),
    ("NVIDIA_API_KEY", known_keys::NGC_API_KEY),
    ("USER", known_keys::USERNAME),
    ("PASS", known_keys::PASSWORD),
    ("TOKEN", known_keys::REGISTRY_TOKEN),
];
/// Typing errors that still count as meaning the key.
const DISTANCE_LIMIT: usize = 2;
/// Longest text that is compared: the work grows with the product of the lengths.
const LENGTH_LIMIT: usize = 40;

pub(crate) fn for_key(key: &str) -> Option<&'static str> {
    if key.len() > LENGTH_LIMIT {
        return None;
    }
    let folded = folded(key);
    let other = OTHER_NAMES
        .into_iter()
        .find(|(name, _)| *name == folded)
        .map(|(_, key)| key);
    let mut nearest = KNOWN_KEYS.map(|(known, _)| (distance(&folded, known), known));
    nearest.sort_by_key(|(distance, _)| *distance);
    let near = nearest
        .first()
        .filter(|(distance, _)| *distance <= DISTANCE_LIMIT);
    other.or_else(|| near.map(|(_, known)| *known))
}

/// The known key that is written otherwise here.
pub(crate) fn known_as(key: &str) -> Option<&'static str> {
    known_keys::find(&folded(key)).map(|(known, _)| known)
}

/// Case, and what separates words, are the commonest slips.
fn folded(key: &str) -> String {
    key.trim()
        .to_ascii_uppercase()
        .replace(['-', '.', ' '], "_")
}

/// How many bytes must be put in, taken out or changed to get from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from_byte) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to_byte) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(from_byte != to_byte);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let table = [
            ("username", Some("USERNAME")),
            ("User-Name", Some("USERNAME")),
            ("PASSWROD", Some("PASSWORD")),
            ("PASSWORD ", Some("PASSWORD")),
            ("GITHUB_TOKN", Some("GITHUB_TOKEN")),
            ("github-token", Some("GITHUB_TOKEN")),
            ("DOCKER_HUB_TOKEN", Some("DOCKERHUB_TOKEN")),
            ("AWS_DEFAULT_REGION", Some("AWS_REGION")),
            ("GH_TOKEN", Some("GITHUB_TOKEN")),
            ("TOKEN", Some("REGISTRY_TOKEN")),
            ("COLOUR", None),
            ("", None),
            ("\u{e9}", None),
        ];
        for (key, expected) in table {
            assert_eq!(for_key(key), expected, "{key:?}");
        }
        assert_eq!(for_key(&"USERNAME".repeat(9)), None);
        assert!(
            OTHER_NAMES
                .iter()
                .all(|(_, key)| known_keys::find(key).is_some())
        );
    }
}
