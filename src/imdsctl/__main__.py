"""`imdsctl` and `python -m imdsctl`."""

from __future__ import annotations

import gc
import sys

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""How many containers more there may be before the young ones are looked through; Python's own is 700."""


def main() -> int:
    """Run the command line that the process was started with, and return its exit code."""
    # Loading makes tens of thousands of objects that all stay; to look for garbage among them is a tenth of the start.
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    try:
        # Here and not above: Ctrl-C while Python still loads us deserves a sentence, not a traceback.
        from imdsctl.bootstrap import main as run
    except KeyboardInterrupt:
        print("error[interrupted]: stopped by Ctrl-C; nothing was begun", file=sys.stderr)
        return 130
    try:
        return run()
    finally:
        gc.freeze()  # nor is it gone through at the end


if __name__ == "__main__":
    sys.exit(main())
