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

const fn classic(suffix: &'static str) -> Partition {
    Partition {
        registry: suffix,
        api: suffix,
        api_prefix: "api.ecr.",
        api_prefix_fips: "ecr-fips.",
        marker: "dkr.ecr",
    }
}

const fn dual_stack(registry: &'static str, api: &'static str) -> Partition {
    Partition {
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
    classic(".amazonaws.com"),
    classic(".amazonaws.com.cn"),
    classic(".amazonaws.eu"),
    classic(".c2s.ic.gov"),
    classic(".sc2s.sgov.gov"),
    classic(".cloud.adc-e.uk"),
    classic(".csp.hci.ic.gov"),
    dual_stack(".on.aws", ".api.aws"),
    dual_stack(
        ".on.amazonwebservices.com.cn",
        ".api.amazonwebservices.com.cn",
    ),
];

/// Digits of an AWS account.
const ACCOUNT_DIGITS: usize = 12;

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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host after the account, region, whether FIPS, and the API's host; `*` is the region.
    const REGISTRIES: &str = "
        dkr.ecr.*.amazonaws.com us-east-1 - api.ecr.*.amazonaws.com
        dkr.ecr-fips.*.amazonaws.com us-gov-west-1 fips ecr-fips.*.amazonaws.com
        dkr-ecr.*.on.aws eu-west-1 - ecr.*.api.aws
        dkr-ecr-fips.*.on.aws us-east-2 fips ecr-fips.*.api.aws
        dkr.ecr.*.amazonaws.com.cn cn-north-1 - api.ecr.*.amazonaws.com.cn
        dkr-ecr.*.on.amazonwebservices.com.cn cn-north-1 - ecr.*.api.amazonwebservices.com.cn
        dkr.ecr.*.amazonaws.eu eusc-de-east-1 - api.ecr.*.amazonaws.eu
        dkr.ecr.*.c2s.ic.gov us-iso-east-1 - api.ecr.*.c2s.ic.gov
        dkr.ecr.*.sc2s.sgov.gov us-isob-east-1 - api.ecr.*.sc2s.sgov.gov
        dkr.ecr.*.cloud.adc-e.uk eu-isoe-west-1 - api.ecr.*.cloud.adc-e.uk
        dkr.ecr.*.csp.hci.ic.gov us-isof-south-1 - api.ecr.*.csp.hci.ic.gov
    ";

    #[test]
    fn registries_of_every_partition() {
        for line in REGISTRIES
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let columns: Vec<&str> = line.split(' ').collect();
            let [rest, region, fips, api] = columns.try_into().expect(line);
            let host = format!("123456789012.{}", rest.replace('*', region));
            let ecr = EcrHost::parse(&host).expect(&host);
            assert_eq!((ecr.account, ecr.region), ("123456789012", region));
            assert_eq!(ecr.fips, fips == "fips", "{line}");
            assert_eq!(ecr.api_host(), api.replace('*', region));
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
