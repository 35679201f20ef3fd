//! The directory of a cloud of Azure: who shows that it is a service principal gets an access token
//! for registries.

use credential::auth::AuthError;
use credential::{AzureSecret, ExposeSecret, SecretString};
use dial::Url;

use super::Principal;
use crate::clouds::Clouds;
use crate::provider::oauth::{self, Refusal, Reply};

/// For registries alone, in every cloud.
const SCOPE: &str = "https://containerregistry.azure.net/.default";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a refusal's code stands for, and what to do about it. The directory's own text names ids
/// and repeats what it was sent.
const CODES: [(u32, &str); 15] = [
    (
        7_000_215,
        "the client secret is wrong; give the secret's value, not its id",
    ),
    (
        7_000_222,
        "the client secret has expired; make a new one for the application",
    ),
    (
        90_002,
        "there is no such tenant in the cloud of the registry",
    ),
    (
        900_023,
        "the tenant is neither an id nor a domain that is known",
    ),
    (
        700_016,
        "there is no such application in the tenant; is it the tenant that the application is in?",
    ),
    (7_000_112, "the application is disabled"),
    (
        7_000_229,
        "the application has no service principal in the tenant; make one",
    ),
    (
        500_011,
        "the tenant knows nothing of Azure Container Registry",
    ),
    (
        700_024,
        "the federated token is not valid now; it has expired, or its issuer's clock is wrong",
    ),
    (
        700_027,
        "the federated token's signature or key is not one that its issuer publishes",
    ),
    (
        70_021,
        "the application trusts no such token; compare its federated credential's issuer, subject \
         and audience",
    ),
    (
        700_211,
        "the application trusts no token of that issuer; look at its federated credentials",
    ),
    (
        700_212,
        "the application trusts no token for that audience; api://AzureADTokenExchange is usual",
    ),
    (
        700_213,
        "the application trusts no token of that subject; look at its federated credentials",
    ),
    (
        53_003,
        "a rule of the tenant for conditional access does not let the application in",
    ),
];

/// An access token for the registries that this principal may read.
pub(super) async fn token(
    clouds: &Clouds,
    host: &str,
    principal: Principal<'_>,
) -> Result<SecretString, AuthError> {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", principal.client_id),
        ("scope", SCOPE),
    ];
    match principal.secret {
        AzureSecret::ClientSecret(secret) => {
            fields.push(("client_secret", secret.expose_secret()));
        }
        AzureSecret::FederatedToken(token) => {
            fields.push(("client_assertion_type", ASSERTION_TYPE));
            fields.push(("client_assertion", token.expose_secret()));
        }
        AzureSecret::Keyless => {
            return Err(AuthError::Internal {
                message: "a principal asks the directory before its token is made".to_owned(),
            });
        }
    }
    let request = oauth::post(url(host, principal.tenant)?, &fields);
    let sent = clouds.now();
    let response = clouds.send(request).await?;
    let reply = Reply::read(host, sent, response).await?;
    if reply.is_success() {
        return Ok(reply.token()?.secret);
    }
    let refusal = reply.refusal();
    Err(reply.refused("the application", known(&refusal).as_deref(), &refusal))
}

/// The tenant is one part of the path, whatever stands in it.
fn url(host: &str, tenant: &str) -> Result<Url, AuthError> {
    let no_address = || AuthError::Internal {
        message: "no address for the directory".to_owned(),
    };
    let mut url = Url::parse(&format!("https://{host}/")).map_err(|_| no_address())?;
    url.path_segments_mut()
        .map_err(|()| no_address())?
        .extend([tenant, "oauth2", "v2.0", "token"]);
    Ok(url)
}

fn known(refusal: &Refusal) -> Option<String> {
    let code = code(&refusal.description)?;
    let listed = CODES.iter().find(|(known, _)| *known == code);
    Some(match listed {
        Some((_, why)) => format!("{why} (AADSTS{code})"),
        None => format!("AADSTS{code}"),
    })
}

/// The number that a description begins with.
fn code(description: &str) -> Option<u32> {
    let rest = description.strip_prefix("AADSTS")?;
    let end = rest.find(|character: char| !character.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_and_nothing_else_is() {
        for (description, expected) in [
            (
                "AADSTS7000215: Invalid client secret provided.",
                Some(7_000_215),
            ),
            ("AADSTS90002", Some(90_002)),
            ("AADSTS: none", None),
            ("AADSTS99999999999999: too many", None),
            ("AADSTS\u{661}", None),
            ("7000215", None),
            ("", None),
        ] {
            assert_eq!(code(description), expected, "{description}");
        }
    }

    #[test]
    fn a_tenant_is_one_part_of_the_path() {
        for (tenant, path) in [
            ("contoso.com", "/contoso.com/oauth2/v2.0/token"),
            ("a/../b", "/a%2F..%2Fb/oauth2/v2.0/token"),
            ("a?b#c", "/a%3Fb%23c/oauth2/v2.0/token"),
            ("@evil.com", "/@evil.com/oauth2/v2.0/token"),
        ] {
            let url = url("login.microsoftonline.com", tenant).unwrap();
            assert_eq!(url.path(), path);
            assert_eq!(url.host_str(), Some("login.microsoftonline.com"));
        }
    }
}
