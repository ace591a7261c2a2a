-- Sweeps of the games of several players, an index over results/sweeps: one row a sweep, one a game and noise.
CREATE TABLE sweeps (
    sweep_id UUID PRIMARY KEY,
    created TIMESTAMPTZ NOT NULL,
    "table" VARCHAR NOT NULL,
    table_sha256 VARCHAR NOT NULL,
    "rows" INTEGER NOT NULL,
    "order" VARCHAR NOT NULL,
    seeds INTEGER NOT NULL,
    spec JSON NOT NULL,
    seconds DOUBLE NOT NULL,
    revision VARCHAR NOT NULL
);
CREATE TABLE sweep_results (
    sweep_id UUID NOT NULL,
    model VARCHAR NOT NULL CHECK (model IN ('bilevel', 'trilevel')),
    penalty DOUBLE,                           -- NULL in the bilevel game
    seed INTEGER NOT NULL,
    noise DOUBLE NOT NULL,
    test_mse DOUBLE,                          -- NULL where the game diverged, here and below
    validation_mse DOUBLE,
    strength DOUBLE,                          -- lambda
    weight_norm DOUBLE,
    perturbation DOUBLE,
    bounded BOOLEAN NOT NULL,
    steps INTEGER NOT NULL
);
