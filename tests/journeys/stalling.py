"""A way to a server that stops in the middle, without a word: for whoever has to be interrupted at work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit


@contextmanager
def stalling(url: str, *, after: int) -> Iterator[tuple[str, threading.Event]]:
    """Pass on so many answers of the HTTP server at `url`, then nothing.

    Gives the URL to use instead, and the event that it has stopped.
    """
    upstream = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80))
    stalled = threading.Event()
    left = iter(range(after))

    def pump(source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                begun = data.count(b"HTTP/1.1 ") if answers else 0
                if any(next(left, None) is None for _ in range(begun)):
                    stalled.set()
                    return
                sink.sendall(data)

    with ExitStack() as open_sockets, socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client = open_sockets.enter_context(listener.accept()[0])
                    server = open_sockets.enter_context(socket.create_connection(upstream))
                    for source, sink, answers in ((client, server, False), (server, client, True)):
                        threading.Thread(target=pump, args=(source, sink, answers), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", stalled
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()  # what it has just accepted is closed with the rest
