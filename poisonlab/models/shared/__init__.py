"""What several datasets use; nothing here registers one."""
