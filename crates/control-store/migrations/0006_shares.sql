-- Which programs of others are given a credential, by its scope. It is of one secret: a credential
-- that is removed and given anew is shared with nobody.
CREATE TABLE share (
    workspace_id TEXT NOT NULL REFERENCES workspace (workspace_id),
    scope        TEXT NOT NULL,
    recipient    TEXT NOT NULL CHECK (recipient IN ('docker', 'kubelet')),
    secret_id    TEXT NOT NULL,
    PRIMARY KEY (workspace_id, scope, recipient)
) STRICT, WITHOUT ROWID;
