-- What a job needs that others may be computing, the victim first; and what of it a running one may still compute,
-- separated by commas, NULL for all of it.
ALTER TABLE jobs ADD COLUMN needs VARCHAR[];
ALTER TABLE jobs ADD COLUMN held VARCHAR;
-- How often the worker of a job was lost since it was last queued by a person.
ALTER TABLE jobs ADD COLUMN lost INTEGER DEFAULT 0;
