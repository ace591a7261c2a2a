"""What the experimenter, who knows the truth, measures and records."""
