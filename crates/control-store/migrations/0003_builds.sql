-- What builds know of images, and the names by which clients know what they uploaded.

-- Variables as a JSON list of pairs, in their order.
ALTER TABLE image ADD COLUMN environment TEXT NOT NULL DEFAULT '[]';
ALTER TABLE image ADD COLUMN python_program TEXT;
ALTER TABLE image ADD COLUMN python_version TEXT
    CHECK ((python_program IS NULL) = (python_version IS NULL));
-- Last, so that rows are read without it where nobody asks.
ALTER TABLE image ADD COLUMN config BLOB;

-- A client's own name for an object, such as a hash over something else than its bytes.
CREATE TABLE object_name (
    workspace_id TEXT NOT NULL REFERENCES workspace (workspace_id),
    name         TEXT NOT NULL,
    object_id    TEXT NOT NULL REFERENCES object (object_id),
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
