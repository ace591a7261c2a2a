"""What several defenses use; nothing here registers a method."""
