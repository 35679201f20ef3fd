-- Whether workers may be given what a credential says as it is, where its registry takes nothing less.
ALTER TABLE registry_settings ADD COLUMN workers_may_hold_password INTEGER NOT NULL DEFAULT 0;
