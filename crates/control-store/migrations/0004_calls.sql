-- What a call says beside its input.

-- The same key on the same stub is the same call, sent again by somebody who heard no answer.
ALTER TABLE task ADD COLUMN idempotency_key BLOB
    CHECK (idempotency_key IS NULL OR length(idempotency_key) = 16);
-- The caller's Python, where it is known: what it pickled may be read by no other.
ALTER TABLE task ADD COLUMN python TEXT;
-- Goes on when its caller goes away.
ALTER TABLE task ADD COLUMN is_headless INTEGER NOT NULL DEFAULT 0 CHECK (is_headless IN (0, 1));

CREATE UNIQUE INDEX task_idempotency_key ON task (stub_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
