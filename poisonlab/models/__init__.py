"""Victim networks: one file a family. Importing nothing here; the registry finds the files."""
