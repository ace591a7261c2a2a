-- Runs whose numbers were measured again from their weights on this machine; filled from the files of results/verified.
CREATE TABLE verified (
    run_id UUID PRIMARY KEY,
    record_hash VARCHAR NOT NULL,   -- of the record that was found to hold these numbers; it counts for no other one
    submission VARCHAR NOT NULL,    -- SHA-256 of the submission's manifest
    "time" TIMESTAMP NOT NULL,
    device VARCHAR NOT NULL
);
