-- Jobs that were queued together, such as a matrix, have the id of their first one in common; a single job has none.
ALTER TABLE jobs ADD COLUMN submission UUID;
