//! Whose token this is, and where it is good.

use axum::http::Uri;
use axum::http::uri::Scheme;
use beta9_protocol::gateway::{AuthorizeResponse, ExportWorkspaceConfigResponse};

use crate::caller::Caller;

/// Where the client found this gateway. It knows better than we: there may be a proxy between.
#[derive(Debug, Clone, Default)]
pub(super) struct Address {
    host: String,
    port: u16,
    has_tls: bool,
}

impl Address {
    pub(super) fn of(uri: &Uri) -> Self {
        let has_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let usual_port = if has_tls { 443 } else { 80 };
        Self {
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(usual_port),
            has_tls,
        }
    }
}

pub(super) fn authorize(caller: &Caller) -> AuthorizeResponse {
    AuthorizeResponse {
        ok: true,
        workspace_id: workspace_id(caller),
        ..Default::default()
    }
}

/// Both faces have one address.
pub(super) fn export(caller: &Caller, address: Address) -> ExportWorkspaceConfigResponse {
    ExportWorkspaceConfigResponse {
        gateway_http_host: address.host.clone(),
        gateway_http_port: address.port.into(),
        gateway_http_tls: address.has_tls,
        gateway_grpc_host: address.host,
        gateway_grpc_port: address.port.into(),
        gateway_grpc_tls: address.has_tls,
        workspace_id: workspace_id(caller),
    }
}

fn workspace_id(caller: &Caller) -> String {
    caller.workspace().uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_client_said() {
        for (uri, host, port, has_tls) in [
            ("http://127.0.0.1:1993/a", "127.0.0.1", 1993, false),
            ("http://gateway/a", "gateway", 80, false),
            ("https://gateway.example/a", "gateway.example", 443, true),
            ("http://[::1]:7230/a", "[::1]", 7230, false),
            ("/a", "", 80, false),
        ] {
            let address = Address::of(&uri.parse().unwrap());
            let found = (&*address.host, address.port, address.has_tls);
            assert_eq!(found, (host, port, has_tls), "{uri}");
        }
    }
}
