-- A container that no worker takes in time is ended by the gateway that waits for it, and another
-- one is asked for: none is given again, and none has a time until which it must be taken.
ALTER TABLE container DROP COLUMN deliver_until;
