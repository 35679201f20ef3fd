//! Who asks: the workspace and the scopes of a token that is valid now, or who runs the gateway.

use control_store::{ApiToken, TokenScope};
use ids::WorkspaceId;
use jiff::Timestamp;

use crate::problem::{Kind, Problem, Refusal};

/// A caller who was looked up for this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Who);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Holder(ApiToken),
    /// Who runs the gateway may do everything in each workspace, and does it in one.
    Operator(WorkspaceId),
}

/// How operators stand in the audit log.
pub(crate) const OPERATOR: &str = "operator";

impl Caller {
    /// The holder of this token, unless it is switched off or over.
    pub(crate) fn of(token: ApiToken, now: Timestamp) -> Result<Self, Problem> {
        if !token.is_enabled {
            return Err(refused("token is switched off"));
        }
        if token.expires_at.is_some_and(|end| end <= now) {
            return Err(refused("token is over"));
        }
        Ok(Self(Who::Holder(token)))
    }

    /// Whoever runs the gateway, by a way that nobody else has.
    pub(crate) fn operator(workspace: WorkspaceId) -> Self {
        Self(Who::Operator(workspace))
    }

    pub fn workspace(&self) -> WorkspaceId {
        match &self.0 {
            Who::Holder(token) => token.workspace,
            Who::Operator(workspace) => *workspace,
        }
    }

    /// What operators need none of.
    pub fn token(&self) -> Option<&ApiToken> {
        match &self.0 {
            Who::Holder(token) => Some(token),
            Who::Operator(_) => None,
        }
    }

    /// How the caller stands in the audit log.
    pub(crate) fn actor(&self) -> String {
        let token = self.token();
        token.map_or_else(|| OPERATOR.to_owned(), |token| token.id.to_string())
    }

    /// Refuses callers whose token is for other things.
    pub(crate) fn must(&self, scope: TokenScope) -> Result<(), Problem> {
        if self
            .token()
            .is_none_or(|token| token.scopes.contains(&scope))
        {
            return Ok(());
        }
        let name = scope.name();
        let problem = Problem::new(Kind::Denied, format!("token has no scope {name:?}"));
        Err(problem
            .refuses(Refusal::Scope)
            .hint("make one that has: `holdfast tokens create --scope …`"))
    }
}

/// What all whose token does not count are told.
pub(crate) fn refused(message: &str) -> Problem {
    Problem::new(Kind::Unauthenticated, message)
        .refuses(Refusal::Token)
        .hint("`holdfast tokens create NAME` makes one; send it as `Authorization: Bearer …`")
}

#[cfg(test)]
mod tests {
    use ids::TokenId;
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_token_counts_while_it_is_on_and_not_over() {
        let now = Timestamp::now();
        let in_seconds = |seconds| Some(now + SignedDuration::from_secs(seconds));
        let table = [
            (true, None, true),
            (true, in_seconds(1), true),
            (true, in_seconds(0), false),
            (true, in_seconds(-1), false),
            (false, None, false),
        ];
        for (is_enabled, expires_at, counts) in table {
            let token = ApiToken {
                id: TokenId::new(),
                workspace: WorkspaceId::new(),
                name: "a".to_owned(),
                scopes: vec![TokenScope::Read],
                created_at: now,
                expires_at,
                is_enabled,
                used_at: None,
            };
            let caller = Caller::of(token, now);
            assert_eq!(caller.is_ok(), counts, "{is_enabled} {expires_at:?}");
            let Ok(caller) = caller else { continue };
            assert!(caller.must(TokenScope::Read).is_ok());
            let denied = caller.must(TokenScope::Secrets).unwrap_err();
            assert_eq!(denied.kind, Kind::Denied);
            assert_eq!(denied.refusal, Some(Refusal::Scope));
        }
    }
}
