"""The command line by `python -m embedge`, where the folder of scripts is not on the path."""

from __future__ import annotations

import sys

from embedge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
