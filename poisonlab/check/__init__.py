"""What somebody brings, looked at without any attack of ours."""
