//! Keys that wrap others and are not given out: the Key Management Service, by its API of
//! 2014-11-01.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use dial::HttpClient;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::error::AwsError;
use crate::exchange::Clock;
use crate::keys::Keys;
use crate::operation::{Answer, Input, Operation};

/// Most bytes that a key of KMS wraps directly.
const PLAIN_MAX_BYTES: usize = 4096;
/// Longest that it makes of them.
const SEALED_MAX_BYTES: usize = 6144;

/// One key, in its region.
#[derive(Debug, Clone, Copy)]
pub struct Kms<'a> {
    /// From a table, or from the operator.
    pub host: &'a str,
    pub region: &'a str,
    /// The ARN of the key: neither an alias, which may point elsewhere tomorrow, nor an id alone.
    pub key: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    key_id: &'a str,
    encryption_context: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    #[serde(borrow)]
    key_id: Cow<'a, str>,
    #[serde(borrow, default)]
    plaintext: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ciphertext_blob: Option<Cow<'a, str>>,
}

impl Kms<'_> {
    /// Wraps a few bytes, bound to this context, which is no secret: AWS writes it into its logs.
    pub async fn encrypt(
        &self,
        (http, clock): (&HttpClient, Clock<'_>),
        keys: &Keys,
        context: &[(&str, &str)],
        plain: &[u8],
    ) -> Result<Vec<u8>, AwsError> {
        let plain = Zeroizing::new(BASE64_STANDARD.encode(plain));
        let body = self.question(context, Some(&plain), None);
        let operation = self.operation("TrentService.Encrypt", "kms:Encrypt", body);
        let answer = operation.ask(http, clock, Some(keys)).await?;
        let sealed = self.read(&answer, |reply| {
            decoded(&reply.ciphertext_blob?, SEALED_MAX_BYTES)
        });
        Ok(std::mem::take(&mut *sealed?))
    }

    /// What was wrapped. Nothing when it does not open: it was wrapped under another key or another
    /// context, or was changed.
    pub async fn decrypt(
        &self,
        (http, clock): (&HttpClient, Clock<'_>),
        keys: &Keys,
        context: &[(&str, &str)],
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, AwsError> {
        let sealed = BASE64_STANDARD.encode(sealed);
        let body = self.question(context, None, Some(&sealed));
        let operation = self.operation("TrentService.Decrypt", "kms:Decrypt", body);
        let answer = match operation.ask(http, clock, Some(keys)).await {
            Err(AwsError::Refused { name, .. }) if is_unopened(&name) => return Ok(None),
            answer => answer?,
        };
        let opened = self.read(&answer, |reply| decoded(&reply.plaintext?, PLAIN_MAX_BYTES));
        wipe(answer.body);
        opened.map(Some)
    }

    /// The request's body, in a buffer that is wiped.
    fn question(
        &self,
        context: &[(&str, &str)],
        plaintext: Option<&str>,
        ciphertext_blob: Option<&str>,
    ) -> Bytes {
        let question = Question {
            key_id: self.key,
            encryption_context: context.iter().copied().collect(),
            plaintext,
            ciphertext_blob,
        };
        // Larger than any question, so that it does not grow and leave a copy behind.
        let mut body = Zeroizing::new(Vec::with_capacity(4 * SEALED_MAX_BYTES));
        serde_json::to_writer(&mut *body, &question).expect("text makes JSON");
        Bytes::from_owner(body)
    }

    fn operation(
        &self,
        target: &'static str,
        permission: &'static str,
        body: Bytes,
    ) -> Operation<'_> {
        Operation {
            host: self.host.to_owned(),
            service: "kms",
            region: self.region,
            input: Input::Json { target, body },
            shown: "the AWS keys",
            permission,
        }
    }

    /// What `take` finds in an answer of this key's.
    fn read<T>(
        &self,
        answer: &Answer,
        take: impl FnOnce(Reply<'_>) -> Option<T>,
    ) -> Result<T, AwsError> {
        let reply: Option<Reply<'_>> = serde_json::from_slice(&answer.body).ok();
        let reply = reply.filter(|reply| reply.key_id == self.key);
        reply.and_then(take).ok_or_else(|| AwsError::Refused {
            name: String::new(),
            message: format!("{} answered without a usable word of its key", self.host),
        })
    }
}

/// What KMS calls bytes that it did not make, or not with this key and context.
fn is_unopened(name: &str) -> bool {
    matches!(name, "InvalidCiphertextException" | "IncorrectKeyException")
}

fn decoded(text: &str, max_bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
    // As many as the text can have, so that the buffer does not grow and leave a copy behind.
    if text.len() > max_bytes.div_ceil(3) * 4 {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = BASE64_STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    (length <= max_bytes).then_some(bytes)
}

/// Overwrites a reply that nobody else has. Copies of the connection's own are not reached.
fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1";

    fn kms() -> Kms<'static> {
        Kms {
            host: "kms.eu-west-1.amazonaws.com",
            region: "eu-west-1",
            key: KEY,
        }
    }

    #[test]
    fn answers_are_of_this_key_and_no_longer_than_any() {
        let long = BASE64_STANDARD.encode([7; PLAIN_MAX_BYTES + 1]);
        for (body, expected) in [
            (
                format!(r#"{{"KeyId":"{KEY}","Plaintext":"eHg="}}"#),
                Some(&b"xx"[..]),
            ),
            (format!(r#"{{"KeyId":"{KEY}","Plaintext":""}}"#), Some(b"")),
            (format!(r#"{{"KeyId":"{KEY}","Plaintext":"eHg"}}"#), None),
            (format!(r#"{{"KeyId":"{KEY}","Plaintext":"{long}"}}"#), None),
            (format!(r#"{{"KeyId":"{KEY}","Plaintext":7}}"#), None),
            (format!(r#"{{"KeyId":"{KEY}"}}"#), None),
            (format!(r#"{{"KeyId":"{KEY}2","Plaintext":"eHg="}}"#), None),
            (r#"{"Plaintext":"eHg="}"#.to_owned(), None),
            ("[]".to_owned(), None),
            (String::new(), None),
        ] {
            let answer = Answer {
                body: body.clone().into(),
                sent: Timestamp::UNIX_EPOCH,
                answered: None,
            };
            let read = kms().read(&answer, |reply| decoded(&reply.plaintext?, PLAIN_MAX_BYTES));
            assert_eq!(read.ok().as_deref().map(Vec::as_slice), expected, "{body}");
        }
    }

    #[test]
    fn questions_name_the_key_and_the_context() {
        let body = kms().question(&[("b", "2"), ("a", "1")], Some("eHg="), None);
        let text = std::str::from_utf8(&body).unwrap();
        let expected = format!(
            r#"{{"KeyId":"{KEY}","EncryptionContext":{{"a":"1","b":"2"}},"Plaintext":"eHg="}}"#
        );
        assert_eq!(text, expected);
    }
}
