//! Who asks: the workspace and the scopes of a token that is valid now, or who runs the gateway.

use control_store::{ApiToken, TokenScope};
use ids::{TokenId, WorkspaceId};
use jiff::Timestamp;

use crate::problem::{Kind, Problem, Refusal};

/// A caller who was looked up for this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Right);

/// By what somebody may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Right {
    Holder(ApiToken),
    /// Who runs the gateway may do everything in each workspace, and does it in one.
    Operator(WorkspaceId),
}

/// Who asks, as far as is known, whether or not they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Actor {
    #[default]
    Nobody,
    /// Of a token that is known, also when it does not count.
    Token(TokenId, WorkspaceId),
    Operator(Option<WorkspaceId>),
}

/// How operators stand in the audit log.
const OPERATOR: &str = "operator";
/// How whoever shows no token stands there.
const NOBODY: &str = "nobody";

impl Caller {
    /// The holder of this token, unless it is switched off or over.
    pub(crate) fn of(token: ApiToken, now: Timestamp) -> Result<Self, Problem> {
        if !token.is_enabled {
            return Err(refused("token is switched off"));
        }
        if token.expires_at.is_some_and(|end| end <= now) {
            return Err(refused("token is over"));
        }
        Ok(Self(Right::Holder(token)))
    }

    /// Whoever runs the gateway, by a way that nobody else has.
    pub(crate) fn operator(workspace: WorkspaceId) -> Self {
        Self(Right::Operator(workspace))
    }

    pub fn workspace(&self) -> WorkspaceId {
        match &self.0 {
            Right::Holder(token) => token.workspace,
            Right::Operator(workspace) => *workspace,
        }
    }

    /// What operators need none of.
    pub fn token(&self) -> Option<&ApiToken> {
        match &self.0 {
            Right::Holder(token) => Some(token),
            Right::Operator(_) => None,
        }
    }

    /// How the caller stands in the audit log.
    pub(crate) fn actor(&self) -> String {
        let token = self.token();
        token.map_or_else(|| OPERATOR.to_owned(), |token| token.id.to_string())
    }

    /// Refuses whoever holds a token: it is for those alone who run the gateway.
    pub(crate) fn must_operate(&self) -> Result<(), Problem> {
        if self.token().is_none() {
            return Ok(());
        }
        let problem = Problem::new(Kind::Denied, "this is for whoever runs the gateway");
        Err(problem
            .refuses(Refusal::Scope)
            .hint("run it on the gateway's machine, as who runs it"))
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

impl Actor {
    /// How they stand in the audit log.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Nobody => NOBODY.to_owned(),
            Self::Token(token, _) => token.to_string(),
            Self::Operator(_) => OPERATOR.to_owned(),
        }
    }

    pub(crate) fn workspace(self) -> Option<WorkspaceId> {
        match self {
            Self::Nobody => None,
            Self::Token(_, workspace) => Some(workspace),
            Self::Operator(workspace) => workspace,
        }
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
