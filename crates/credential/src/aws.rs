//! Shapes of what an AWS credential is made of. Strict where a value later stands in the host of a
//! request or is signed; the keys themselves only AWS can judge.

use crate::error::Malformed;

/// Longest region; the longest known has 14 bytes.
const REGION_LIMIT: usize = 32;
const ROLE_ARN_LIMIT: usize = 2048;
const ACCOUNT_DIGITS: usize = 12;
/// What AWS itself demands of a session name.
const SESSION_NAME_LENGTH: std::ops::RangeInclusive<usize> = 2..=64;
/// What the id of a temporary key starts with. It is worthless without its session token.
pub(crate) const TEMPORARY_KEY_PREFIX: &str = "ASIA";

pub(crate) fn check_access_key_id(id: &str) -> Result<(), Malformed> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric();
    if id.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Malformed::AwsAccessKeyId)
    }
}

pub(crate) fn check_region(region: &str) -> Result<(), Malformed> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = region.starts_with('-') || region.ends_with('-');
    if region.len() <= REGION_LIMIT && !edges && region.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Malformed::AwsRegion)
    }
}

/// `arn:<partition>:iam::<account>:role/<path and name>`.
pub(crate) fn check_role_arn(arn: &str) -> Result<(), Malformed> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let account =
        |text: &str| text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
        text.strip_prefix("role/")
            .is_some_and(|name| !name.is_empty() && name.bytes().all(allowed))
    };
    let partition = |text: &str| text == "aws" || text.starts_with("aws-");
    let good = matches!(parts[..], ["arn", cloud, "iam", "", owner, role]
        if partition(cloud) && account(owner) && name(role));
    if good && arn.len() <= ROLE_ARN_LIMIT {
        Ok(())
    } else {
        Err(Malformed::AwsRoleArn)
    }
}

pub(crate) fn check_session_name(name: &str) -> Result<(), Malformed> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if SESSION_NAME_LENGTH.contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Malformed::AwsSessionName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for region in ["us-east-1", "eusc-de-east-1", "us-gov-west-1"] {
            assert_eq!(check_region(region), Ok(()), "{region}");
        }
        for region in [
            "US-EAST-1",
            "us-east-1.evil.com",
            "-a",
            "a-",
            "a/b",
            "a b",
            &"a".repeat(33),
        ] {
            assert_eq!(check_region(region), Err(Malformed::AwsRegion), "{region}");
        }
        for arn in [
            "arn:aws:iam::123456789012:role/puller",
            "arn:aws-cn:iam::123456789012:role/team/puller",
            "arn:aws-us-gov:iam::123456789012:role/a+b=c,d.e@f_g-h",
        ] {
            assert_eq!(check_role_arn(arn), Ok(()), "{arn}");
        }
        for arn in [
            "",
            "puller",
            "arn:aws:iam::123456789012:user/puller",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::12345678901:role/puller",
            "arn:aws:sts::123456789012:role/puller",
            "arn:aws:iam:us-east-1:123456789012:role/puller",
            "arn:evil:iam::123456789012:role/puller",
            "arn:aws:iam::123456789012:role/a&b",
        ] {
            assert_eq!(check_role_arn(arn), Err(Malformed::AwsRoleArn), "{arn}");
        }
        assert_eq!(check_session_name("holdfast"), Ok(()));
        assert_eq!(check_session_name("a"), Err(Malformed::AwsSessionName));
        assert_eq!(check_session_name("a&b"), Err(Malformed::AwsSessionName));
        assert_eq!(check_access_key_id("AKIAIOSFODNN7EXAMPLE"), Ok(()));
        assert_eq!(
            check_access_key_id("AKIA\n"),
            Err(Malformed::AwsAccessKeyId)
        );
    }
}
