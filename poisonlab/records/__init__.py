"""Runs and artifacts on disk."""
