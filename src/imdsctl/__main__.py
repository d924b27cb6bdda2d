"""`imdsctl` and `python -m imdsctl`."""

from __future__ import annotations

import sys

from imdsctl.bootstrap import main

if __name__ == "__main__":
    sys.exit(main())
