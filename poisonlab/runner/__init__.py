"""Where and by whom ``run_experiment`` is called."""
