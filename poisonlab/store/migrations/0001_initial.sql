-- Times are UTC. A number that diverged is NULL with its flag set; NaN is refused.
CREATE SEQUENCE job_position;

CREATE TABLE jobs (
    run_id UUID PRIMARY KEY,
    spec JSON NOT NULL,
    dataset VARCHAR NOT NULL,
    attack VARCHAR NOT NULL,
    defense VARCHAR NOT NULL,
    victim VARCHAR NOT NULL,
    preset VARCHAR NOT NULL,
    seed INTEGER NOT NULL,
    device VARCHAR NOT NULL,                  -- as asked for
    ran_on VARCHAR,                           -- the worker that took it
    state VARCHAR NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'interrupted')),
    position BIGINT NOT NULL DEFAULT nextval('job_position'),
    attempt INTEGER NOT NULL DEFAULT 0,
    owner VARCHAR,                            -- the process that runs it
    cancel BOOLEAN NOT NULL DEFAULT false,    -- asked to stop
    stage VARCHAR NOT NULL DEFAULT '',
    step BIGINT NOT NULL DEFAULT 0,
    total BIGINT NOT NULL DEFAULT 0,
    rate DOUBLE CHECK (NOT isnan(rate)),      -- steps a second
    eta_seconds DOUBLE CHECK (NOT isnan(eta_seconds)),
    message VARCHAR NOT NULL DEFAULT '',
    created TIMESTAMP NOT NULL,
    started TIMESTAMP,
    finished TIMESTAMP
);

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
    threat VARCHAR CHECK (threat IN ('backdoor', 'targeted')),
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
    -- headline metrics as columns, so that the leaderboard needs no pivot
    clean_accuracy DOUBLE CHECK (NOT isnan(clean_accuracy)),
    clean_accuracy_undefended DOUBLE CHECK (NOT isnan(clean_accuracy_undefended)),
    clean_accuracy_control DOUBLE CHECK (NOT isnan(clean_accuracy_control)),
    success DOUBLE CHECK (NOT isnan(success)),                     -- asr or poison_success
    success_undefended DOUBLE CHECK (NOT isnan(success_undefended)),
    control DOUBLE CHECK (NOT isnan(control)),
    robust_accuracy DOUBLE CHECK (NOT isnan(robust_accuracy)),
    der DOUBLE CHECK (NOT isnan(der)),
    targets DOUBLE
);

-- No keys below: rows of a run are replaced as a whole.
CREATE TABLE metrics (
    run_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE CHECK (NOT isnan(value)),
    diverged BOOLEAN NOT NULL
);

CREATE TABLE points (
    run_id UUID NOT NULL,
    stage VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE CHECK (NOT isnan(value)),
    diverged BOOLEAN NOT NULL
);

CREATE TABLE logs (
    run_id UUID NOT NULL,
    stage VARCHAR NOT NULL,
    level VARCHAR NOT NULL,
    message VARCHAR NOT NULL
);

CREATE TABLE artifacts (
    run_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    stage VARCHAR NOT NULL
);

CREATE TABLE timings (
    run_id UUID NOT NULL,
    stage VARCHAR NOT NULL,
    seconds DOUBLE NOT NULL,
    cached BOOLEAN NOT NULL
);
