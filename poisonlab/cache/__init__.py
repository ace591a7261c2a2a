"""The stage cache: what a result depends on, and nothing else."""
