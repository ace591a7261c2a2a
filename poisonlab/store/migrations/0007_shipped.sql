-- What this machine recorded has tables of its own. Under the old names the store defines views that put the shipped
-- results beside them, which are read from their files: rows that were copied from them before are not needed.
DELETE FROM metrics WHERE run_id IN (SELECT run_id FROM runs WHERE home = 'reference');
DELETE FROM points WHERE run_id IN (SELECT run_id FROM runs WHERE home = 'reference');
DELETE FROM logs WHERE run_id IN (SELECT run_id FROM runs WHERE home = 'reference');
DELETE FROM artifacts WHERE run_id IN (SELECT run_id FROM runs WHERE home = 'reference');
DELETE FROM timings WHERE run_id IN (SELECT run_id FROM runs WHERE home = 'reference');
DELETE FROM runs WHERE home = 'reference';
ALTER TABLE runs RENAME TO own_runs;
ALTER TABLE metrics RENAME TO own_metrics;
ALTER TABLE points RENAME TO own_points;
ALTER TABLE logs RENAME TO own_logs;
ALTER TABLE artifacts RENAME TO own_artifacts;
ALTER TABLE timings RENAME TO own_timings;
