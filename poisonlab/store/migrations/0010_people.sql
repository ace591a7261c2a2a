-- Who queued a job; empty where nobody signs in.
ALTER TABLE jobs ADD COLUMN person VARCHAR DEFAULT '';
-- Who did what, never changed again.
CREATE TABLE audit (
    "time" TIMESTAMP NOT NULL,
    person VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    detail VARCHAR NOT NULL
);
