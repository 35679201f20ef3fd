-- For how long what a registry proved counts while it does not answer, where somebody has set it.
ALTER TABLE workspace ADD COLUMN offline_seconds INTEGER CHECK (offline_seconds >= 0);
-- When a registry, asked again, said no to what a grant says. A new proof takes it back.
ALTER TABLE image_grant ADD COLUMN refused_at INTEGER;
