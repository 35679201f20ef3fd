-- What becomes of a workspace's containers whose credential is removed, where somebody has set it.
ALTER TABLE workspace ADD COLUMN after_removal TEXT
    CHECK (after_removal IN ('continue', 'drain', 'kill'));
