//! Objects in a bucket of S3, or of a store that speaks as S3 does: written whole or in parts,
//! looked for, and given to others for a while by a URL that is signed for one of them.
//!
//! An object that is written in parts is there when the last word was said, and not before. Where a
//! bucket is comes from who configures it, never from a reply.

use std::time::Duration;

use bytes::Bytes;
use credential::SecretString;
use dial::header::{CONTENT_LENGTH, ETAG, HeaderMap};
use dial::{HttpClient, Method, Request, Url};
use jiff::Timestamp;

use crate::error::AwsError;
use crate::exchange::{self, Asked, Clock, Replied};
use crate::keys::Keys;
use crate::signature::{self, STORAGE, Scope};
use crate::xml;

/// Names of buckets have 3 to 63 bytes.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=63;
/// S3 takes names of objects of 1024 bytes.
const KEY_MAX_BYTES: usize = 1024;
/// Longest name of an upload, and of a part's state, that is sent back. Real ones are below 200.
const TOKEN_MAX_BYTES: usize = 1024;
/// How a bucket is named in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// First in the path: what stores of others mostly want.
    Path,
    /// First in the host: what AWS wants.
    Host,
}

/// A bucket, and where it is.
#[derive(Debug, Clone)]
pub struct Bucket {
    name: String,
    region: String,
    /// That its objects are below.
    url: Url,
    host: String,
}

/// Why this is no bucket, or no name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    #[error("is no name of a bucket")]
    Name,
    #[error("is no name of a region")]
    Region,
    #[error("is no URL of a store, such as https://s3.example.com")]
    Endpoint,
    #[error("is no name of an object")]
    Key,
}

/// The name of an object: letters, digits and `-._/`, which are written the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectKey(String);

/// An object that is being written in parts.
#[derive(Debug, Clone)]
pub struct Upload {
    key: ObjectKey,
    id: String,
}

/// A part that was taken.
#[derive(Debug, Clone)]
pub struct Part {
    state: String,
}

impl ObjectKey {
    pub fn parse(text: &str) -> Result<Self, BucketError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
        // A URL has no segments that are empty or dots.
        let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
        let is_key = text.len() <= KEY_MAX_BYTES
            && text.bytes().all(plain)
            && text.split('/').all(is_segment);
        is_key
            .then(|| Self(text.to_owned()))
            .ok_or(BucketError::Key)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Bucket {
    /// `endpoint` is scheme, host and port of the store.
    pub fn new(
        endpoint: &Url,
        name: &str,
        region: &str,
        style: Style,
    ) -> Result<Self, BucketError> {
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = NAME_BYTES.contains(&name.len())
            && name.bytes().all(|byte| label(byte) || byte == b'.')
            && name.split('.').all(|part| !part.is_empty());
        // In a host, a point would begin a name that no certificate covers.
        if !is_name || (style == Style::Host && name.contains('.')) {
            return Err(BucketError::Name);
        }
        if region.is_empty() || region.len() > *NAME_BYTES.end() || !region.bytes().all(label) {
            return Err(BucketError::Region);
        }
        let host = endpoint.host_str().ok_or(BucketError::Endpoint)?;
        let is_bare = endpoint.path() == "/"
            && endpoint.query().is_none()
            && endpoint.fragment().is_none()
            && endpoint.username().is_empty()
            && endpoint.password().is_none()
            && matches!(endpoint.scheme(), "https" | "http");
        if !is_bare {
            return Err(BucketError::Endpoint);
        }
        let mut url = endpoint.clone();
        match style {
            Style::Path => url.set_path(name),
            Style::Host => {
                let host = format!("{name}.{host}");
                url.set_host(Some(&host))
                    .map_err(|_| BucketError::Endpoint)?;
            }
        }
        let host = url.host_str().ok_or(BucketError::Endpoint)?.to_owned();
        let host = url
            .port()
            .map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Ok(Self {
            name: name.to_owned(),
            region: region.to_owned(),
            url,
            host,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Host and, where it is not the usual one, port: what is dialled.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host alone, without the brackets of an address.
    pub fn bare_host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// A URL with which anybody gets this object, or a stretch of it, until then.
    pub fn presign_get(
        &self,
        keys: &Keys,
        key: &ObjectKey,
        (now, life): (Timestamp, Duration),
    ) -> Result<SecretString, AwsError> {
        let url = self.url_of(key);
        signature::presign_get(url, keys, self.scope(), (now, life))
    }

    /// How long an object is; nothing where there is none.
    pub async fn head(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        key: &ObjectKey,
    ) -> Result<Option<u64>, AwsError> {
        let request = Request::new(Method::HEAD, self.url_of(key));
        match self.ask(way, keys, "s3:GetObject", request).await {
            Ok(replied) => Ok(Some(length(&replied.headers)?)),
            Err(AwsError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object in one piece.
    pub async fn put(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        key: &ObjectKey,
        body: Bytes,
    ) -> Result<(), AwsError> {
        let mut request = Request::new(Method::PUT, self.url_of(key));
        request.body = body;
        let put = self.ask(way, keys, "s3:PutObject", request);
        put.await.map(|_replied| ())
    }

    /// Begins an object that is written in parts.
    pub async fn begin(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        key: &ObjectKey,
    ) -> Result<Upload, AwsError> {
        let mut url = self.url_of(key);
        url.set_query(Some("uploads="));
        let request = Request::new(Method::POST, url);
        let replied = self.ask(way, keys, "s3:PutObject", request).await?;
        let id = xml::text(&replied.body, "UploadId").filter(|id| is_token(id));
        Ok(Upload {
            key: key.clone(),
            id: id.ok_or_else(|| self.meaningless("an upload that has no name"))?,
        })
    }

    /// The next part of it: they count from 1, and all but the last are large.
    pub async fn put_part(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        upload: &Upload,
        (number, body): (usize, Bytes),
    ) -> Result<Part, AwsError> {
        let mut url = self.url_of(&upload.key);
        let pairs = [
            ("partNumber", &*number.to_string()),
            ("uploadId", &upload.id),
        ];
        url.query_pairs_mut().extend_pairs(pairs);
        let mut request = Request::new(Method::PUT, url);
        request.body = body;
        let replied = self.ask(way, keys, "s3:PutObject", request).await?;
        let state = replied.headers.get(ETAG);
        let state = state.and_then(|state| state.to_str().ok());
        let state = state.filter(|state| is_token(state.trim_matches('"')));
        let state = state.ok_or_else(|| self.meaningless("a part that has no state"))?;
        Ok(Part {
            state: state.trim_matches('"').to_owned(),
        })
    }

    /// Has the object be there, of these parts.
    pub async fn finish(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        upload: &Upload,
        parts: &[Part],
    ) -> Result<(), AwsError> {
        let mut request = Request::new(Method::POST, self.url_of_upload(upload));
        request.body = manifest(parts).into();
        let replied = self.ask(way, keys, "s3:PutObject", request).await?;
        // What fails late is told with a status that was sent before.
        match std::str::from_utf8(&replied.body) {
            Ok(body) if body.contains("<CompleteMultipartUploadResult") => Ok(()),
            _ => Err(self.meaningless("an end that is none")),
        }
    }

    /// Has nothing be left of it. Without this its parts are kept, and paid for.
    pub async fn abandon(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        upload: &Upload,
    ) -> Result<(), AwsError> {
        let request = Request::new(Method::DELETE, self.url_of_upload(upload));
        match self
            .ask(way, keys, "s3:AbortMultipartUpload", request)
            .await
        {
            Ok(_) | Err(AwsError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &self,
        way: (&HttpClient, Clock<'_>),
        keys: &Keys,
        permission: &str,
        request: Request,
    ) -> Result<Replied, AwsError> {
        let asked = Asked {
            host: &self.host,
            shown: "the bucket's keys",
            permission,
        };
        exchange::ask(way, Some((keys, self.scope())), asked, request).await
    }

    fn scope(&self) -> Scope<'_> {
        Scope {
            service: STORAGE,
            region: &self.region,
        }
    }

    fn url_of(&self, key: &ObjectKey) -> Url {
        let mut url = self.url.clone();
        let path = match url.path() {
            "/" => format!("/{}", key.0),
            bucket => format!("{bucket}/{}", key.0),
        };
        url.set_path(&path);
        url
    }

    fn url_of_upload(&self, upload: &Upload) -> Url {
        let mut url = self.url_of(&upload.key);
        url.query_pairs_mut().append_pair("uploadId", &upload.id);
        url
    }

    fn meaningless(&self, what: &str) -> AwsError {
        AwsError::Unavailable {
            message: format!("{} answered with {what}", self.host),
        }
    }
}

fn length(headers: &HeaderMap) -> Result<u64, AwsError> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.ok_or_else(|| AwsError::Unavailable {
        message: "an object was found whose length is not told".to_owned(),
    })
}

/// What is sent back as it came, in a query or between two elements.
fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>&\"'".contains(&byte);
    !text.is_empty() && text.len() <= TOKEN_MAX_BYTES && text.bytes().all(plain)
}

fn manifest(parts: &[Part]) -> String {
    let mut text = "<CompleteMultipartUpload>".to_owned();
    for (part, number) in parts.iter().zip(1..) {
        let state = &part.state;
        text.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>\"{state}\"</ETag></Part>"
        ));
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}
