"""Finished runs as one HTML file that needs no network: a board, a run, a comparison."""
