-- Which root key each workspace key is wrapped under, and which one a rotation goes to: rows of both
-- stand side by side while it is under way.

ALTER TABLE workspace_key ADD COLUMN root_key_id BLOB NOT NULL DEFAULT x'';
UPDATE workspace_key SET root_key_id = (SELECT root_key_id FROM vault);

ALTER TABLE vault ADD COLUMN next_root_key_id BLOB CHECK (length(next_root_key_id) = 16);
