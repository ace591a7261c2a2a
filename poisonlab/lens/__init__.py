"""What a finished run looks like from inside: features, attention, spectra, classes. Only reads what a run left."""
