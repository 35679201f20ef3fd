-- What stands in the clear beside sealed bytes, and is bound to them: of a credential without a
-- secret, all of it.

ALTER TABLE secret_version ADD COLUMN in_clear TEXT;
