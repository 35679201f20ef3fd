-- Whose a lease is, what was given with it last and until when that counts, and which renewal came
-- last; and what becomes of the containers that ran with a secret that was removed.

ALTER TABLE lease ADD COLUMN repository TEXT    NOT NULL DEFAULT '';
ALTER TABLE lease ADD COLUMN worker     TEXT    NOT NULL DEFAULT '';
ALTER TABLE lease ADD COLUMN rung       TEXT;
ALTER TABLE lease ADD COLUMN not_after  INTEGER;
ALTER TABLE lease ADD COLUMN renewals   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lease ADD COLUMN nonce      BLOB;

CREATE INDEX lease_worker ON lease (worker) WHERE ended_at IS NULL;

ALTER TABLE secret ADD COLUMN after_removal TEXT;

CREATE INDEX secret_called_off ON secret (secret_id) WHERE after_removal IN ('drain', 'kill');

CREATE INDEX audit_given ON audit (sequence) WHERE action IN ('vend', 'give');
