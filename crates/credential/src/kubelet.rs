//! What a kubelet and a credential provider plugin say to each other, `v1` of the protocol. Text to
//! values and back; asks nobody.
//!
//! ```text
//! <- {"apiVersion","kind":"CredentialProviderRequest","image"}
//! -> {"apiVersion","kind":"CredentialProviderResponse","cacheKeyType":"Image","cacheDuration",
//!     "auth": {REGISTRY/REPOSITORY: {"username","password"}}}
//! ```
//!
//! Answers are for the image that was asked for and no other: which scope covers it is our word,
//! and not that of the kubelet's patterns, in which `team` covers `teams`.

use std::collections::BTreeMap;
use std::time::Duration;

use reference::{ParseReferenceError, Reference, Registry};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The one version of the protocol that is spoken.
pub const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
const REQUEST_KIND: &str = "CredentialProviderRequest";
const RESPONSE_KIND: &str = "CredentialProviderResponse";
/// Longest request. An image's name and a pod's token are a few kilobytes.
pub const REQUEST_LIMIT_BYTES: usize = 256 * 1024;

/// Why a text is no request. Messages never repeat it: it may hold a pod's token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeletRequestError {
    #[error("request is longer than {REQUEST_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("request is not the JSON of a {REQUEST_KIND}")]
    NotRequest,
    #[error("request is of another apiVersion than {API_VERSION}")]
    ApiVersion,
    #[error("request names an image that is none: {0}")]
    Image(#[from] ParseReferenceError),
}

/// The image that a kubelet wants to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletRequest {
    pub image: Reference,
    /// The repository in the kubelet's own words, which it compares answers with.
    repository: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    kind: String,
    image: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    api_version: &'static str,
    kind: &'static str,
    cache_key_type: &'static str,
    cache_duration: String,
    auth: BTreeMap<&'a str, Auth<'a>>,
}

#[derive(Clone, Copy, Serialize)]
struct Auth<'a> {
    username: &'a str,
    password: &'a str,
}

/// A user name and a password, and how long the kubelet may keep them.
#[derive(Debug)]
pub struct KubeletAuth {
    pub username: String,
    pub password: SecretString,
    pub keep_for: Duration,
}

impl KubeletRequest {
    pub fn parse(text: &[u8]) -> Result<Self, KubeletRequestError> {
        if text.len() > REQUEST_LIMIT_BYTES {
            return Err(KubeletRequestError::TooLong);
        }
        // Errors of the parser are not passed on: they can quote what they stumbled over.
        let request: Request =
            serde_json::from_slice(text).map_err(|_| KubeletRequestError::NotRequest)?;
        if request.api_version != API_VERSION {
            return Err(KubeletRequestError::ApiVersion);
        }
        if request.kind != REQUEST_KIND {
            return Err(KubeletRequestError::NotRequest);
        }
        let image = Reference::parse(&request.image)?;
        Ok(Self {
            repository: repository_of(&request.image, &image),
            image,
        })
    }

    /// The answer: nothing, which is asked again each time, or what pulls this image.
    pub fn response(&self, auth: Option<&KubeletAuth>) -> Zeroizing<String> {
        let canonical = format!("{}/{}", self.image.registry(), self.image.repository());
        let own = self.repository.as_deref();
        let keys: Vec<&str> = own.into_iter().chain([canonical.as_str()]).collect();
        let given = auth.map(|auth| Auth {
            username: &auth.username,
            password: auth.password.expose_secret(),
        });
        let entries = keys.iter().filter_map(|key| Some((*key, given?)));
        let keep_for = auth.map_or(Duration::ZERO, |auth| auth.keep_for);
        let response = Response {
            api_version: API_VERSION,
            kind: RESPONSE_KIND,
            cache_key_type: "Image",
            cache_duration: format!("{}s", keep_for.as_secs()),
            auth: entries.collect(),
        };
        // Without growing, which would leave copies behind: each byte of a text is six at most.
        let secret = given.map_or(0, |given| given.username.len() + given.password.len());
        let names = keys.iter().map(|key| key.len()).sum::<usize>();
        let mut text = Vec::with_capacity(512 + 2 * 6 * (secret + names));
        serde_json::to_writer(&mut text, &response)
            .expect("texts serialise, and memory is at hand");
        Zeroizing::new(String::from_utf8(text).expect("JSON is UTF-8"))
    }
}

/// An image's name without its tag and digest, where it names its registry.
fn repository_of(text: &str, image: &Reference) -> Option<String> {
    let (registry, _) = text.split_once('/')?;
    Registry::parse(registry)
        .ok()
        .filter(|named| named == image.registry())?;
    let name = text.split_once('@').map_or(text, |(name, _)| name);
    let tag = image.tag().map(|tag| format!(":{tag}"));
    let name = tag.and_then(|tag| name.strip_suffix(&tag)).unwrap_or(name);
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(image: &str) -> Value {
        json!({ "apiVersion": API_VERSION, "kind": REQUEST_KIND, "image": image })
    }

    fn parse(request: &Value) -> Result<KubeletRequest, KubeletRequestError> {
        KubeletRequest::parse(request.to_string().as_bytes())
    }

    #[test]
    fn answers_are_for_the_image_alone() {
        let auth = KubeletAuth {
            username: "u".to_owned(),
            password: SecretString::from("p\"w"),
            keep_for: Duration::from_mins(5),
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        let table = [
            ("r.example/team/app:v1", vec!["r.example/team/app"]),
            (&format!("r.example/app@{digest}"), vec!["r.example/app"]),
            (&format!("r.example/app:v1@{digest}"), vec!["r.example/app"]),
            ("localhost:5000/app", vec!["localhost:5000/app"]),
            ("docker.io/library/nginx", vec!["docker.io/library/nginx"]),
            ("nginx:1", vec!["docker.io/library/nginx"]),
            ("acme/app:1", vec!["docker.io/acme/app"]),
            ("r.example:443/app", vec!["r.example:443/app"]),
            (
                "index.docker.io/acme/app",
                vec!["docker.io/acme/app", "index.docker.io/acme/app"],
            ),
        ];
        for (image, keys) in table {
            let parsed = parse(&request(image)).expect(image);
            let shown: Value = serde_json::from_str(&parsed.response(Some(&auth))).unwrap();
            let given = json!({ "username": "u", "password": "p\"w" });
            let auths: serde_json::Map<String, Value> = keys
                .iter()
                .map(|key| ((*key).to_owned(), given.clone()))
                .collect();
            let expected = json!({
                "apiVersion": API_VERSION, "kind": RESPONSE_KIND, "cacheKeyType": "Image",
                "cacheDuration": "300s", "auth": auths,
            });
            assert_eq!(shown, expected, "{image}");
        }
        let nothing = parse(&request("r.example/app")).unwrap().response(None);
        let nothing: Value = serde_json::from_str(&nothing).unwrap();
        assert_eq!(
            (&nothing["auth"], &nothing["cacheDuration"]),
            (&json!({}), &json!("0s"))
        );
    }

    #[test]
    fn what_is_no_request_is_refused_without_its_text() {
        let with = |key: &str, value: Value| {
            let mut request = request("r.example/app");
            request[key] = value;
            request
        };
        let not_request = "not the JSON of";
        let table = [
            (json!("CANARY"), not_request),
            (json!({ "image": "CANARY" }), not_request),
            (with("kind", json!("CANARY")), not_request),
            (with("image", json!(["CANARY"])), not_request),
            (
                with("image", json!("r.example/CANARY")),
                "image that is none",
            ),
            (with("image", json!("r.example/*")), "image that is none"),
            (
                with("apiVersion", json!("credentialprovider.kubelet.k8s.io/v2")),
                "another apiVersion",
            ),
            (
                with(
                    "serviceAccountToken",
                    json!("a".repeat(REQUEST_LIMIT_BYTES)),
                ),
                "longer than",
            ),
        ];
        for (request, says) in table {
            let error = parse(&request).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("CANARY"), "{error}");
        }
        // A token of a pod's is not for us, and no error.
        parse(&with("serviceAccountToken", json!("CANARY"))).unwrap();
    }
}
