"""A page of metrics for Prometheus, on loopback only: it names processes, which is nobody else's business."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

ADDRESS = "127.0.0.1"
CLIENT_SECONDS_MAX = 5.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def serving(port: int, page: Callable[[], str]) -> Iterator[int]:
    """Serve `page()` at /metrics, from a thread, until the context ends; gives the port (for 0, the one it got).

    Raises DiagnosticError `port-in-use`, or `port-refused` where the system does not give it to us.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS_MAX
        server_version, sys_version = "imdsctl", ""

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] in ("/metrics", "/")
            content = page().encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", CONTENT_TYPE if found else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Scrapes are nothing to talk about."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A reader that went away is no news either."""

    try:
        server = Server((ADDRESS, port), Handler)
    except OSError as error:
        where, hint = f"{ADDRESS}:{port}", "`--prometheus 0` takes a free port"
        if error.errno == errno.EADDRINUSE:
            taken = Diagnostic("port-in-use", f"port {port} is in use already", subject=where, hint=hint)
            raise DiagnosticError(taken) from None
        reason = (error.strerror or str(error)).lower()
        refused = Diagnostic("port-refused", f"port {port} cannot be used: {reason}", subject=where, hint=hint)
        raise DiagnosticError(refused) from None
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
