-- Sealed secrets, the leases on them and the audit chain. Times are milliseconds since the epoch.

CREATE TABLE vault (
    singleton     INTEGER PRIMARY KEY CHECK (singleton = 1),
    vault_id      BLOB    NOT NULL CHECK (length(vault_id) = 16),
    root_key_id   BLOB    NOT NULL CHECK (length(root_key_id) = 16),
    audit_key_id  BLOB    NOT NULL CHECK (length(audit_key_id) = 16),
    audit_key     BLOB    NOT NULL,
    head_sequence INTEGER NOT NULL,
    head_mac      BLOB    NOT NULL,
    head_seal     BLOB    NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE workspace_key (
    workspace   TEXT    PRIMARY KEY,
    key_id      BLOB    NOT NULL CHECK (length(key_id) = 16),
    wrapped     BLOB    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secret (
    secret_id       TEXT    PRIMARY KEY,
    workspace       TEXT    NOT NULL REFERENCES workspace_key (workspace),
    name            TEXT    NOT NULL,
    current_version INTEGER NOT NULL CHECK (current_version > 0),
    head_mac        BLOB    NOT NULL,
    created_at      INTEGER NOT NULL,
    removed_at      INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX secret_live_name ON secret (workspace, name) WHERE removed_at IS NULL;
CREATE INDEX secret_name ON secret (workspace, name, created_at);

CREATE TABLE secret_version (
    secret_id  TEXT    NOT NULL REFERENCES secret (secret_id),
    version    INTEGER NOT NULL CHECK (version > 0),
    kind       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    sealed     BLOB,
    actor      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER,
    state      TEXT    NOT NULL DEFAULT 'unknown',
    proven     TEXT,
    rung       TEXT,
    realm      TEXT,
    checked_at INTEGER,
    not_after  INTEGER,
    PRIMARY KEY (secret_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    lease_id   TEXT    PRIMARY KEY,
    workspace  TEXT    NOT NULL,
    secret_id  TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    image      TEXT    NOT NULL,
    container  TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    begun_at   INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER,
    end_reason TEXT,
    FOREIGN KEY (secret_id, version) REFERENCES secret_version (secret_id, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX lease_live ON lease (secret_id, version) WHERE ended_at IS NULL;

CREATE TABLE audit (
    sequence  INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    workspace TEXT,
    secret_id TEXT,
    version   INTEGER,
    subject   TEXT    NOT NULL,
    detail    TEXT    NOT NULL,
    mac       BLOB    NOT NULL
) STRICT;

CREATE INDEX audit_seal ON audit (secret_id, version) WHERE action = 'seal';
