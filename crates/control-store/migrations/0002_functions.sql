-- Functions: who may call, what is called, every call and where it runs. No secrets, sealed or not.
-- Times are milliseconds since the epoch.

-- Tokens are 256 random bits, so that their hash needs no salt and can be looked up.
CREATE TABLE api_token (
    token_id     TEXT    PRIMARY KEY,
    workspace_id TEXT    NOT NULL REFERENCES workspace (workspace_id),
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    is_enabled   INTEGER NOT NULL CHECK (is_enabled IN (0, 1)),
    used_at      INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX api_token_workspace ON api_token (workspace_id, token_id);

-- Uploaded bytes, which lie in files. By workspace: a digest alone finds nothing.
CREATE TABLE object (
    object_id    TEXT    PRIMARY KEY,
    workspace_id TEXT    NOT NULL REFERENCES workspace (workspace_id),
    digest       TEXT    NOT NULL,
    size_bytes   INTEGER NOT NULL CHECK (size_bytes >= 0),
    created_at   INTEGER NOT NULL,
    UNIQUE (workspace_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE stub (
    stub_id      TEXT    PRIMARY KEY,
    workspace_id TEXT    NOT NULL REFERENCES workspace (workspace_id),
    name         TEXT    NOT NULL,
    fingerprint  BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    definition   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (workspace_id, fingerprint)
) STRICT, WITHOUT ROWID;

-- A task that has ended never changes again: every change is guarded by its state and attempt.
CREATE TABLE task (
    task_id      TEXT    PRIMARY KEY,
    workspace_id TEXT    NOT NULL,
    stub_id      TEXT    NOT NULL REFERENCES stub (stub_id),
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'running', 'ended')),
    format       TEXT    NOT NULL,
    retries      INTEGER NOT NULL CHECK (retries >= 0),
    attempts     INTEGER NOT NULL CHECK (attempts >= 0),
    container_id TEXT,
    created_at   INTEGER NOT NULL,
    available_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    started_at   INTEGER,
    ended_at     INTEGER,
    outcome      TEXT,
    CHECK ((state = 'ended') = (outcome IS NOT NULL)),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX task_workspace ON task (workspace_id, task_id);
CREATE INDEX task_open ON task (task_id) WHERE state <> 'ended';
CREATE INDEX task_ended ON task (ended_at) WHERE state = 'ended';

-- Apart from their tasks, since a row is written anew whenever its task changes.
CREATE TABLE task_input (
    task_id TEXT PRIMARY KEY REFERENCES task (task_id) ON DELETE CASCADE,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE task_result (
    task_id TEXT PRIMARY KEY REFERENCES task (task_id) ON DELETE CASCADE,
    payload BLOB,
    failure TEXT
) STRICT;

-- Attempts that are over. The one that runs stands in its task.
CREATE TABLE task_attempt (
    task_id      TEXT    NOT NULL REFERENCES task (task_id) ON DELETE CASCADE,
    number       INTEGER NOT NULL CHECK (number > 0),
    container_id TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    outcome      TEXT    NOT NULL,
    PRIMARY KEY (task_id, number)
) STRICT, WITHOUT ROWID;

-- The containers of functions, and the queue of those that wait for a worker: a row names its stub
-- and never a secret.
CREATE TABLE container (
    container_id   TEXT    PRIMARY KEY,
    workspace_id   TEXT    NOT NULL,
    stub_id        TEXT    NOT NULL REFERENCES stub (stub_id),
    state          TEXT    NOT NULL
                   CHECK (state IN ('requested', 'placed', 'starting', 'ready', 'ended')),
    worker_id      TEXT,
    delivery       INTEGER NOT NULL CHECK (delivery >= 0),
    deliver_until  INTEGER,
    requested_at   INTEGER NOT NULL,
    ready_at       INTEGER,
    ended_at       INTEGER,
    reason         TEXT,
    CHECK ((state IN ('placed', 'starting', 'ready')) <= (worker_id IS NOT NULL)),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX container_workspace ON container (workspace_id, container_id);
CREATE INDEX container_open ON container (container_id) WHERE state <> 'ended';

CREATE TABLE worker (
    worker_id       TEXT    PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    public_key      BLOB    NOT NULL UNIQUE CHECK (length(public_key) = 32),
    cpu_millicores  INTEGER NOT NULL CHECK (cpu_millicores >= 0),
    memory_bytes    INTEGER NOT NULL CHECK (memory_bytes >= 0),
    is_draining     INTEGER NOT NULL CHECK (is_draining IN (0, 1)),
    joined_at       INTEGER NOT NULL,
    seen_at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each lets one worker join, once.
CREATE TABLE join_token (
    hash       BLOB    PRIMARY KEY CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
