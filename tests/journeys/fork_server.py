"""Runs `imdsctl` command lines as processes of their own that start in milliseconds: everything is imported before.

Each line on standard input is a JSON list: where output goes, and the words of a command. It is answered with the
process's id at once, and, after one more line, with how it ended (`os.waitpid`'s status) when it has: until then its
id is nobody else's.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from importlib import import_module

MODULES = (
    "adapters.clock",
    "adapters.journal_file",
    "adapters.lease",
    "adapters.plan_file",
    "cli.apply",
    "cli.plan",
    "cli.rollback",
    "fleet.apply",
    "fleet.gauge",
    "fleet.rollback",
    "fleet.sessions",
    "views.apply",
    "views.plan",
)


def serve() -> None:
    from imdsctl.bootstrap import main

    for module in MODULES:
        import_module(f"imdsctl.{module}")
    main(["apply", "--help"])
    for line in sys.stdin:
        output, *words = json.loads(line)
        if output == "here":  # to warm up what every command needs
            main(words)
            gc.freeze()  # a child would copy every page that its collector looks at
            print("\nwarm", flush=True)
            continue
        child = os.fork()
        if not child:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for stream in (1, 2):
                os.dup2(descriptor, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            code = 70
            try:
                code = main(words)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(child, flush=True)
        sys.stdin.readline()
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    serve()
