"""What decides a result: configuration, overrides, descriptions."""
