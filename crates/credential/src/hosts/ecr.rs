//! Hosts of private Amazon ECR registries, in every partition, and where their tokens come from.

/// A private ECR registry, read out of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcrHost<'a> {
    pub account: &'a str,
    pub region: &'a str,
    /// Whether the registry answers on FIPS endpoints.
    pub fips: bool,
    partition: Partition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Partition {
    /// As it stands in the names of resources.
    name: &'static str,
    /// What follows the region in a registry's host.
    registry: &'static str,
    /// What follows the region in the API's host.
    api: &'static str,
    /// What comes before the region in the API's host, and with FIPS.
    api_prefix: &'static str,
    api_prefix_fips: &'static str,
    /// `.dkr.ecr` or, for dual-stack hosts, `.dkr-ecr`.
    marker: &'static str,
}

const fn classic(name: &'static str, suffix: &'static str) -> Partition {
    Partition {
        name,
        registry: suffix,
        api: suffix,
        api_prefix: "api.ecr.",
        api_prefix_fips: "ecr-fips.",
        marker: "dkr.ecr",
    }
}

const fn dual_stack(name: &'static str, registry: &'static str, api: &'static str) -> Partition {
    Partition {
        name,
        registry,
        api,
        api_prefix: "ecr.",
        api_prefix_fips: "ecr-fips.",
        marker: "dkr-ecr",
    }
}

/// Suffixes that AWS documents. Dual-stack hosts of its European sovereign cloud are not among
/// them.
const PARTITIONS: [Partition; 9] = [
    classic("aws", ".amazonaws.com"),
    classic("aws-cn", ".amazonaws.com.cn"),
    classic("aws-eusc", ".amazonaws.eu"),
    classic("aws-iso", ".c2s.ic.gov"),
    classic("aws-iso-b", ".sc2s.sgov.gov"),
    classic("aws-iso-e", ".cloud.adc-e.uk"),
    classic("aws-iso-f", ".csp.hci.ic.gov"),
    dual_stack("aws", ".on.aws", ".api.aws"),
    dual_stack(
        "aws-cn",
        ".on.amazonwebservices.com.cn",
        ".api.amazonwebservices.com.cn",
    ),
];

/// Its registries have the suffix of the commercial partition.
const GOV_CLOUD: &str = "aws-us-gov";
const GOV_CLOUD_REGIONS: &str = "us-gov-";

/// Digits of an AWS account.
const ACCOUNT_DIGITS: usize = 12;

/// What follows the region in the hosts of AWS's own services in a partition, with the dot.
pub fn aws_suffix(partition: &str) -> Option<&'static str> {
    let name = if partition == GOV_CLOUD {
        "aws"
    } else {
        partition
    };
    let known = PARTITIONS.iter().find(|known| known.name == name);
    known.map(|known| known.api)
}

impl<'a> EcrHost<'a> {
    /// Reads a lower-case host; `None` when it is not a private ECR registry's.
    pub(crate) fn parse(host: &'a str) -> Option<Self> {
        let (account, rest) = host.split_once('.')?;
        let digits = account.bytes().all(|byte| byte.is_ascii_digit());
        if account.len() != ACCOUNT_DIGITS || !digits {
            return None;
        }
        PARTITIONS.iter().find_map(|partition| {
            let front = rest
                .strip_suffix(partition.registry)?
                .strip_prefix(partition.marker)?;
            let (fips, front) = match front.strip_prefix("-fips") {
                Some(front) => (true, front),
                None => (false, front),
            };
            let region = front.strip_prefix('.')?;
            let one_label = !region.is_empty() && !region.contains('.');
            one_label.then_some(Self {
                account,
                region,
                fips,
                partition: *partition,
            })
        })
    }

    /// The host that mints tokens for this registry.
    pub fn api_host(&self) -> String {
        let partition = &self.partition;
        let prefix = if self.fips {
            partition.api_prefix_fips
        } else {
            partition.api_prefix
        };
        format!("{prefix}{}{}", self.region, partition.api)
    }

    /// The host that gives out sessions of roles in this registry's region, by the name that AWS's
    /// own clients choose.
    pub fn sts_host(&self) -> String {
        let is_dual_stack = self.partition.api != self.partition.registry;
        // GovCloud's plain one is its FIPS one.
        let is_plain = !self.fips || (self.partition() == GOV_CLOUD && !is_dual_stack);
        let prefix = if is_plain { "sts." } else { "sts-fips." };
        format!("{prefix}{}{}", self.region, self.partition.api)
    }

    /// The partition, as it stands in the names of resources.
    pub fn partition(&self) -> &'static str {
        if self.partition.name == "aws" && self.region.starts_with(GOV_CLOUD_REGIONS) {
            return GOV_CLOUD;
        }
        self.partition.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host after the account, region, whether FIPS, the API's host, that of sessions, and the
    /// partition; `*` is the region. Sessions' hosts are those that botocore 1.44 chooses.
    const REGISTRIES: &str = "
        dkr.ecr.*.amazonaws.com us-east-1 - api.ecr.*.amazonaws.com sts.*.amazonaws.com aws
        dkr.ecr-fips.*.amazonaws.com us-east-1 fips ecr-fips.*.amazonaws.com \
            sts-fips.*.amazonaws.com aws
        dkr.ecr-fips.*.amazonaws.com us-gov-west-1 fips ecr-fips.*.amazonaws.com \
            sts.*.amazonaws.com aws-us-gov
        dkr-ecr.*.on.aws eu-west-1 - ecr.*.api.aws sts.*.api.aws aws
        dkr-ecr-fips.*.on.aws us-east-2 fips ecr-fips.*.api.aws sts-fips.*.api.aws aws
        dkr.ecr.*.amazonaws.com.cn cn-north-1 - api.ecr.*.amazonaws.com.cn \
            sts.*.amazonaws.com.cn aws-cn
        dkr-ecr.*.on.amazonwebservices.com.cn cn-north-1 - ecr.*.api.amazonwebservices.com.cn \
            sts.*.api.amazonwebservices.com.cn aws-cn
        dkr.ecr.*.amazonaws.eu eusc-de-east-1 - api.ecr.*.amazonaws.eu sts.*.amazonaws.eu aws-eusc
        dkr.ecr.*.c2s.ic.gov us-iso-east-1 - api.ecr.*.c2s.ic.gov sts.*.c2s.ic.gov aws-iso
        dkr.ecr.*.sc2s.sgov.gov us-isob-east-1 - api.ecr.*.sc2s.sgov.gov \
            sts.*.sc2s.sgov.gov aws-iso-b
        dkr.ecr.*.cloud.adc-e.uk eu-isoe-west-1 - api.ecr.*.cloud.adc-e.uk \
            sts.*.cloud.adc-e.uk aws-iso-e
        dkr.ecr.*.csp.hci.ic.gov us-isof-south-1 - api.ecr.*.csp.hci.ic.gov \
            sts.*.csp.hci.ic.gov aws-iso-f
    ";

    #[test]
    fn registries_of_every_partition() {
        let lines = REGISTRIES.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty()) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [rest, region, fips, api, sts, partition] = columns.try_into().expect(line);
            let host = format!("123456789012.{}", rest.replace('*', region));
            let ecr = EcrHost::parse(&host).expect(&host);
            assert_eq!((ecr.account, ecr.region), ("123456789012", region));
            assert_eq!(ecr.fips, fips == "fips", "{line}");
            assert_eq!(ecr.api_host(), api.replace('*', region));
            assert_eq!(ecr.sts_host(), sts.replace('*', region));
            assert_eq!(ecr.partition(), partition, "{line}");
        }
    }

    #[test]
    fn others_are_not_ecr() {
        for host in [
            "1.dkr.ecr.x.evil.com",
            "123456789012.dkr.ecr.us-east-1.evil.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com.cn.evil.com",
            "123456789012.dkr.ecr.a.b.amazonaws.com",
            "123456789012.dkr.ecr.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecrx.us-east-1.amazonaws.com",
            "123456789012.dkr-ecr.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.on.aws",
            "12345678901.dkr.ecr.us-east-1.amazonaws.com",
            "1234567890123.dkr.ecr.us-east-1.amazonaws.com",
            "12345678901a.dkr.ecr.us-east-1.amazonaws.com",
            "x.123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "dkr.ecr.us-east-1.amazonaws.com",
            "api.ecr.us-east-1.amazonaws.com",
        ] {
            assert_eq!(EcrHost::parse(host), None, "{host}");
        }
    }
}
