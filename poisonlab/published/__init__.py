"""Numbers that papers and repositories report, each with its source, and the specs that would measure them here."""
