-- What a run was measured on, and whether a model of it collapsed; NULL where the record does not say.
ALTER TABLE runs ADD COLUMN experiment VARCHAR;   -- equal for repeats over seeds on the same data; NULL: spec_group
ALTER TABLE runs ADD COLUMN data VARCHAR;         -- fingerprint of the dataset as it was loaded
ALTER TABLE runs ADD COLUMN collapsed VARCHAR;    -- which of control, undefended, defended; empty for none
-- Records are read anew: they carry the names of today's parameters and metrics.
DELETE FROM metrics WHERE run_id IN (SELECT run_id FROM runs);
DELETE FROM points WHERE run_id IN (SELECT run_id FROM runs);
DELETE FROM logs WHERE run_id IN (SELECT run_id FROM runs);
DELETE FROM artifacts WHERE run_id IN (SELECT run_id FROM runs);
DELETE FROM timings WHERE run_id IN (SELECT run_id FROM runs);
DELETE FROM runs;
