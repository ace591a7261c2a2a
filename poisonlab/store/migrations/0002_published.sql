-- What papers report, one row a number, rates in [0, 1]; a copy of poisonlab/published/tables, replaced when those change.
CREATE TABLE published (
    table_id VARCHAR NOT NULL,
    attack VARCHAR NOT NULL,                  -- the table's own keys
    defense VARCHAR NOT NULL,
    method VARCHAR NOT NULL,                  -- for people: attack and defense as the table names them
    setting VARCHAR NOT NULL,                 -- dataset, network, poison rate, clean images, epochs
    metric VARCHAR NOT NULL CHECK (metric IN ('clean_accuracy', 'asr', 'poison_success')),
    value DOUBLE NOT NULL CHECK (value BETWEEN 0 AND 1),
    spread DOUBLE,                            -- standard deviation where one is given
    provenance VARCHAR NOT NULL CHECK (provenance IN ('read', 'recalled')),
    source VARCHAR NOT NULL,
    digest VARCHAR NOT NULL                   -- of all files together: whether this copy is up to date
);
