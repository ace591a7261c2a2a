"""``python -m poisonlab``."""

import sys

from poisonlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
