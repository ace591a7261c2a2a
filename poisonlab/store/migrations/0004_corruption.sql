-- A third kind of threat. DuckDB cannot change a CHECK: the table is made anew and keeps its rows.
ALTER TABLE runs RENAME TO runs_before;

CREATE TABLE runs (
    run_id UUID PRIMARY KEY,
    home VARCHAR NOT NULL CHECK (home IN ('runs', 'reference')),   -- which folder holds it
    source VARCHAR NOT NULL CHECK (source IN ('local', 'imported', 'reference')),
    record_hash VARCHAR NOT NULL,             -- SHA-256 of run.json
    spec JSON NOT NULL,
    spec_group VARCHAR NOT NULL,              -- equal for repeats over seeds
    dataset VARCHAR NOT NULL,
    attack VARCHAR NOT NULL,
    defense VARCHAR NOT NULL,
    victim VARCHAR NOT NULL,
    preset VARCHAR NOT NULL,
    seed INTEGER NOT NULL,
    state VARCHAR NOT NULL CHECK (state IN ('done', 'failed', 'cancelled')),
    latest BOOLEAN NOT NULL DEFAULT false,    -- the newest finished run of its group, source and seed
    threat VARCHAR CHECK (threat IN ('backdoor', 'targeted', 'corruption')),
    revision VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    torch VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL,
    started TIMESTAMP NOT NULL,
    finished TIMESTAMP NOT NULL,
    seconds DOUBLE NOT NULL,
    peak_memory_mb DOUBLE,
    message VARCHAR NOT NULL,
    diverged BOOLEAN NOT NULL,
    -- headline metrics as columns, so that the leaderboard needs no pivot; no NaN: DuckDB orders it after infinity
    -- (isnan is a function of an extension, which a column added later would miss when the log is replayed)
    clean_accuracy DOUBLE CHECK (clean_accuracy <= 'infinity'),
    clean_accuracy_undefended DOUBLE CHECK (clean_accuracy_undefended <= 'infinity'),
    clean_accuracy_control DOUBLE CHECK (clean_accuracy_control <= 'infinity'),
    success DOUBLE CHECK (success <= 'infinity'),  -- asr, poison_success or accuracy_loss
    success_undefended DOUBLE CHECK (success_undefended <= 'infinity'),
    control DOUBLE CHECK (control <= 'infinity'),
    robust_accuracy DOUBLE CHECK (robust_accuracy <= 'infinity'),
    der DOUBLE CHECK (der <= 'infinity'),
    targets DOUBLE
);

INSERT INTO runs BY NAME SELECT * FROM runs_before;
DROP TABLE runs_before;
