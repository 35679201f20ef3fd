//! Shapes of what names a principal of Azure. Strict, since a tenant stands in the path of a
//! request.

use crate::error::Malformed;

/// Hexadecimal digits between the hyphens of a GUID.
const GUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
/// Longest name of a domain.
const DOMAIN_LIMIT: usize = 253;

pub(crate) fn check_client_id(id: &str) -> Result<(), Malformed> {
    is_guid(id).then_some(()).ok_or(Malformed::AzureClientId)
}

/// A tenant's id, or one of its domains. The names that stand for any tenant are none.
pub(crate) fn check_tenant(tenant: &str) -> Result<(), Malformed> {
    let good = is_guid(tenant) || is_domain(tenant);
    good.then_some(()).ok_or(Malformed::AzureTenant)
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    groups.iter().map(|group| group.len()).eq(GUID_GROUPS) && groups.iter().all(is_hex)
}

fn is_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
    text.len() <= DOMAIN_LIMIT && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "409520d4-8100-4d1d-ad47-72432ddcc120";

    #[test]
    fn shapes() {
        for tenant in [
            GUID,
            "contoso.onmicrosoft.com",
            "CONTOSO.com",
            "contoso.partner.onmschina.cn",
        ] {
            assert_eq!(check_tenant(tenant), Ok(()), "{tenant}");
        }
        for tenant in [
            "",
            "common",
            "organizations",
            "a.b/../c",
            "a.b?c",
            "a..b",
            ".a.b",
            "a.b.",
            "a b.c",
            "..",
            "409520d4-8100-4d1d-ad47-72432ddcc12",
            &format!("a.{}", "b".repeat(253)),
        ] {
            assert_eq!(
                check_tenant(tenant),
                Err(Malformed::AzureTenant),
                "{tenant}"
            );
        }
        assert_eq!(check_client_id(GUID), Ok(()));
        assert_eq!(check_client_id(&GUID.to_uppercase()), Ok(()));
        for id in ["", "my-app", "contoso.com", &GUID.replace('4', "g")] {
            assert_eq!(check_client_id(id), Err(Malformed::AzureClientId), "{id}");
        }
    }
}
