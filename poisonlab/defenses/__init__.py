"""Defenses: one file each. Importing nothing here; the registry finds the files."""
