//! The platform that an image is for, and the choice among those that an index offers.

use std::fmt;

/// Operating system, architecture and variant, in the words of image indexes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// The platform of this machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self::new("linux", architecture, variant)
    }

    /// How well an image for `offered` runs here: smaller is better, `None` is not at all.
    ///
    /// Variants of 32-bit arm count down from ours. `arm64` and `arm64/v8` are one; variants above
    /// the plain one (`amd64/v3`) are taken only when asked for.
    pub(crate) fn distance(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.architecture == "arm" {
            return self.arm_version()?.checked_sub(offered.arm_version()?);
        }
        match (self.plain_variant(), offered.plain_variant()) {
            (ours, theirs) if ours == theirs => Some(0),
            (Some(_), None) => Some(1),
            _ => None,
        }
    }

    fn arm_version(&self) -> Option<u32> {
        let variant = self.variant.as_deref().unwrap_or("v7");
        variant.trim_start_matches('v').parse().ok()
    }

    fn plain_variant(&self) -> Option<&str> {
        let baseline = match self.architecture.as_str() {
            "arm64" => "v8",
            "amd64" => "v1",
            _ => "",
        };
        self.variant
            .as_deref()
            .filter(|variant| !variant.is_empty() && *variant != baseline)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_says_what_runs_here() {
        let cases = [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64", Some(1)),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/strange", None),
            ("linux/amd64", "unknown/unknown", None),
        ];
        for (ours, offered, expected) in cases {
            assert_eq!(
                parse(ours).distance(&parse(offered)),
                expected,
                "{ours} on {offered}"
            );
        }
    }

    fn parse(text: &str) -> Platform {
        let mut parts = text.split('/');
        let mut next = || parts.next();
        let (os, architecture) = (next().unwrap(), next().unwrap());
        Platform::new(os, architecture, next())
    }
}
