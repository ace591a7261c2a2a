"""What the command line does, one function a command: parsed options in, exit code out."""
