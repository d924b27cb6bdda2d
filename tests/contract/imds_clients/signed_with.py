"""Run a program against a stand-in for an AWS endpoint, and print the access key that it signs its requests with.

    python signed_with.py COMMAND [ARGUMENT...]

`@ENDPOINT@` in an argument becomes the stand-in's address, on loopback. Every request is answered `403`. This ends as
soon as the program has signed a request, or has ended: whoever started it ends what is left of that.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCESS_KEY = re.compile(r"(?:Credential=|AWS )([A-Z0-9]{16,})")
"""In the Authorization header: of Signature Version 4, and of its predecessor."""
REFUSAL = b"<Error><Code>AccessDenied</Code><Message>the stand-in refuses everything</Message></Error>"


class StandIn(BaseHTTPRequestHandler):
    """Refuses every request, and notes the access key of the first signed one."""

    signed = threading.Event()
    access_key = ""

    def refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if (found := ACCESS_KEY.search(self.headers.get("Authorization", ""))) is not None:
            StandIn.access_key = found[1]
            StandIn.signed.set()
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(REFUSAL)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(REFUSAL)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = refuse

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the output is the access key."""


def main(command: list[str]) -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    program = subprocess.Popen([each.replace("@ENDPOINT@", endpoint) for each in command], stdin=subprocess.DEVNULL)
    threading.Thread(target=lambda: (program.wait(), StandIn.signed.set()), daemon=True).start()
    StandIn.signed.wait()
    print(StandIn.access_key, flush=True)
    return 0 if StandIn.access_key else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
