//! `[shared_cache]`: a bucket in which a gateway keeps layers for its workers.
//!
//! ```toml
//! [shared_cache]
//! bucket = "holdfast-layers"
//! region = "eu-west-1"
//! credentials = "/etc/holdfast/bucket.keys"      # or credential:NAME
//! endpoint = "https://s3.example.com"            # where it is not AWS's
//! style = "host"                                 # or "path", which others than AWS mostly want
//! prefix = "production"
//! ca_file = "/etc/holdfast/store.pem"
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use credential::hosts::aws_suffix;
use dial::Url;
use gateway::{Bucket, BucketError, BucketKeys, Keys, SharedCacheSettings, Style};
use key_service::Given;
use serde::Deserialize;

use crate::bounded_file;
use crate::failure::{Failure, Kind, Result};

/// Certificates of an authority or a few.
const CA_MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SharedCacheFile {
    bucket: String,
    region: String,
    credentials: PathBuf,
    endpoint: Option<String>,
    style: Option<StyleFile>,
    prefix: Option<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StyleFile {
    Path,
    Host,
}

/// A bucket that was declared.
#[derive(Clone, Debug)]
pub(crate) struct SharedCache {
    bucket: Bucket,
    credentials: Given,
    prefix: Option<String>,
    plain_http: bool,
    ca_file: Option<PathBuf>,
}

/// Keys in a file, or in a credential of systemd.
#[derive(Debug)]
struct GivenKeys(Given);

impl BucketKeys for GivenKeys {
    fn keys(&self) -> std::result::Result<Keys, String> {
        self.0.read_aws_keys().map_err(|error| error.to_string())
    }
}

impl SharedCache {
    /// As a gateway has it.
    pub(crate) fn settings(&self) -> Result<SharedCacheSettings> {
        let read = |path: &PathBuf| {
            let read = bounded_file::read(path, CA_MAX_BYTES);
            let read = read.map(|pem| pem.to_vec());
            read.map_err(|error| {
                let message = format!("{}: {error}", path.display());
                Failure::new(Kind::Machine, message)
            })
        };
        Ok(SharedCacheSettings {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            keys: Arc::new(GivenKeys(self.credentials.clone())),
            plain_http: self.plain_http,
            ca_pem: self.ca_file.as_ref().map(read).transpose()?,
        })
    }
}

pub(super) fn shared_cache(file: SharedCacheFile) -> Result<SharedCache> {
    let invalid = |what: &str, error: BucketError| {
        Failure::invalid(format!("shared_cache: {what:?} {error}"))
    };
    let named = file.endpoint.clone();
    let endpoint = named.unwrap_or_else(|| aws_endpoint(&file.region));
    let url = Url::parse(&endpoint);
    let url = url.map_err(|_| invalid(&endpoint, BucketError::Endpoint))?;
    let style = match (file.style, &file.endpoint) {
        (Some(StyleFile::Host), _) | (None, None) => Style::Host,
        (Some(StyleFile::Path), _) | (None, Some(_)) => Style::Path,
    };
    let bucket = Bucket::new(&url, &file.bucket, &file.region, style).map_err(|error| {
        let what = match error {
            BucketError::Region => &file.region,
            BucketError::Endpoint => &endpoint,
            _ => &file.bucket,
        };
        invalid(what, error)
    })?;
    if let Some(prefix) = &file.prefix {
        gateway::check_prefix(prefix).map_err(|error| invalid(prefix, error))?;
    }
    Ok(SharedCache {
        bucket,
        credentials: super::given(&file.credentials)?,
        prefix: file.prefix,
        plain_http: url.scheme() == "http",
        ca_file: file.ca_file,
    })
}

/// Where a region of AWS answers, by AWS's own naming.
fn aws_endpoint(region: &str) -> String {
    let partition = match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("eusc") => "aws-eusc",
        _ => "aws",
    };
    let suffix = aws_suffix(partition).expect("a partition of AWS");
    format!("https://s3.{region}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<SharedCache> {
        let file = toml::from_str(lines).map_err(|error| Failure::invalid(error.message()))?;
        shared_cache(file)
    }

    #[test]
    fn a_bucket_is_aws_s_or_anothers() {
        let base = "bucket = \"layers\"\ncredentials = \"/k\"\n";
        for (rest, host, plain_http) in [
            (
                "region = \"eu-west-1\"",
                "layers.s3.eu-west-1.amazonaws.com",
                false,
            ),
            (
                "region = \"cn-north-1\"",
                "layers.s3.cn-north-1.amazonaws.com.cn",
                false,
            ),
            (
                "region = \"eu-west-1\"\nstyle = \"path\"",
                "s3.eu-west-1.amazonaws.com",
                false,
            ),
            (
                "region = \"x\"\nendpoint = \"https://s3.example\"",
                "s3.example",
                false,
            ),
            (
                "region = \"x\"\nendpoint = \"http://h:9000\"",
                "h:9000",
                true,
            ),
            (
                "region = \"x\"\nendpoint = \"https://s3.example\"\nstyle = \"host\"",
                "layers.s3.example",
                false,
            ),
        ] {
            let read = read(&format!("{base}{rest}")).unwrap();
            assert_eq!((read.bucket.host(), read.plain_http), (host, plain_http));
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused_by_name() {
        let whole = "bucket = \"layers\"\ncredentials = \"/k\"\nregion = \"r\"";
        read(whole).unwrap();
        for (from, to, named) in [
            ("layers", "Layers", "Layers"),
            ("\"r\"", "\"r/r\"", "r/r"),
            (
                "\"r\"",
                "\"r\"\nendpoint = \"https://u:canary@h\"",
                "no URL of a store",
            ),
            ("\"r\"", "\"r\"\nprefix = \"/a\"", "/a"),
            ("\"r\"", "\"r\"\nkeys = \"/k\"", "keys"),
            ("\"/k\"", "\"fd:3\"", "fd:3"),
        ] {
            let error = read(&whole.replace(from, to)).unwrap_err().message;
            assert!(error.contains(named), "{error}");
        }
    }
}
