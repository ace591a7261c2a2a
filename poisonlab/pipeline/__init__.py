"""The protocol of an experiment, stage by stage."""
