"""`imdsctl` and `python -m imdsctl`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line that the process was started with, and return its exit code."""
    try:
        # Here and not above: Ctrl-C while Python still loads us deserves a sentence, not a traceback.
        from imdsctl.bootstrap import main as run
    except KeyboardInterrupt:
        print("error[interrupted]: stopped by Ctrl-C; nothing was begun", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
