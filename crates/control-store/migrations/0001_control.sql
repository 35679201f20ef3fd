-- Workspaces, the registries they use, images and the right to run them. No secrets, sealed or not.
-- Times are milliseconds since the epoch.

CREATE TABLE workspace (
    workspace_id TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE registry_settings (
    workspace_id  TEXT    NOT NULL REFERENCES workspace (workspace_id),
    scope         TEXT    NOT NULL,
    plain_http    INTEGER NOT NULL CHECK (plain_http IN (0, 1)),
    ca_pem        BLOB,
    token_service TEXT,
    PRIMARY KEY (workspace_id, scope)
) STRICT, WITHOUT ROWID;

-- By workspace, although ids are digests: the names in a row are those of one tenant.
CREATE TABLE image (
    workspace_id    TEXT    NOT NULL REFERENCES workspace (workspace_id),
    image_id        TEXT    NOT NULL,
    typed           TEXT    NOT NULL,
    canonical       TEXT    NOT NULL,
    origin          TEXT    NOT NULL,
    manifest_digest TEXT    NOT NULL,
    config_digest   TEXT    NOT NULL,
    layers          TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, image_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_alias (
    workspace_id    TEXT    NOT NULL REFERENCES workspace (workspace_id),
    canonical       TEXT    NOT NULL,
    manifest_digest TEXT    NOT NULL,
    image_id        TEXT    NOT NULL,
    checked_at      INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, canonical),
    FOREIGN KEY (workspace_id, image_id) REFERENCES image (workspace_id, image_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_grant (
    grant_id       TEXT    PRIMARY KEY,
    workspace_id   TEXT    NOT NULL REFERENCES workspace (workspace_id),
    image_id       TEXT    NOT NULL,
    origin         TEXT    NOT NULL,
    secret_id      TEXT,
    secret_version INTEGER CHECK (secret_version > 0),
    granted_at     INTEGER NOT NULL,
    UNIQUE (workspace_id, image_id, origin),
    CHECK ((secret_id IS NULL) = (secret_version IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX image_grant_secret ON image_grant (secret_id) WHERE secret_id IS NOT NULL;
