"""What several attacks use; nothing here registers a method."""
