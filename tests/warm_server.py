"""Runs `imdsctl` and `aws` command lines as processes of their own that start in milliseconds: everything that they
load was loaded before they were forked. Half of what a suite of whole-program tests costs is Python importing.

Called with the path of a socket to listen on. A connection brings two open files (standard output and error) and a line
of JSON: the program, its words, the environment and the folder. It is answered with `os.waitpid`'s status.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

COLD = ("imdsctl.local", "imdsctl.host", "imdsctl.adapters.dask_sweep", "imdsctl.__main__")
"""What only servers and keepers load, in processes that are started for real; and what starts threads."""


def load() -> None:
    """Import what commands import."""
    import imdsctl

    for each in pkgutil.walk_packages(imdsctl.__path__, "imdsctl."):
        if not each.name.startswith(COLD):
            import_module(each.name)
    settle()


def settle() -> None:
    """What is loaded stays: a child would copy every page of it that its collector looks at."""
    gc.collect()
    gc.freeze()


def program(name: str) -> Callable[[list[str]], Any]:
    """What a program's file would call, with the words after its name."""
    if name == "imdsctl":
        from imdsctl.bootstrap import main

        return main
    if "awscli" not in sys.modules:
        import_module("awscli.clidriver")  # puts its models into AWS_DATA_PATH
        settle()
    from awscli.clidriver import main as aws

    return lambda words: aws()


def serve(listener: socket.socket) -> None:
    """Answer connections until the end of standard input: whoever started this is gone then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for a command
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        request, streams = received(connection)
        asked = json.loads(request)
        call = program(asked["program"])
        models = os.environ.get("AWS_DATA_PATH", "")
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            child = os.fork()
            if not child:
                connection.close()
                become(asked, streams, models)
                leave(call, asked["words"])
            connection.sendall(str(os.waitpid(child, 0)[1]).encode())
            os._exit(0)
        connection.close()
        for each in streams:
            os.close(each)


def received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A line, and the files that came with it."""
    files = array.array("i")
    line, ancillary, *_ = connection.recvmsg(65536, socket.CMSG_SPACE(2 * files.itemsize))
    for _, _, data in ancillary:
        files.frombytes(data)
    while line and not line.endswith(b"\n"):
        line += connection.recv(65536)
    return line, list(files)


def become(asked: dict[str, Any], streams: list[int], models: str) -> None:
    """From here on this is the process that was asked for."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((null, *streams)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["env"])
    if asked["program"] == "aws":
        os.environ.setdefault("AWS_DATA_PATH", models)
    os.chdir(asked["folder"])
    sys.argv[:] = [asked["program"], *asked["words"]]


def leave(call: Callable[[list[str]], Any], words: list[str]) -> NoReturn:
    """Call, and end as Python does; but what was loaded is not taken apart: that costs as much as many commands."""
    code = 1
    try:
        code = call(words)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    load()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(Path(sys.argv[1])))
        listening.listen(16)
        print("ready", flush=True)
        serve(listening)
