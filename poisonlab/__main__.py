"""``python -m poisonlab``."""

import sys

from poisonlab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
