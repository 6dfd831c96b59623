"""``python -m latprof`` is the command ``latprof``."""

import sys

from latprof.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
