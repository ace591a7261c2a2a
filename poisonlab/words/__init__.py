"""What numbers and terms are called, wherever they are shown: pages, reports, the command line."""
