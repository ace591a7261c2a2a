-- What in a spec its preset would not have chosen; NULL until the store has filled it in.
ALTER TABLE runs ADD COLUMN settings VARCHAR;
