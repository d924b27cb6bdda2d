"""A small web application with the bug that cost Capital One its data: it fetches what its visitors ask for (SSRF).

For `imdsctl demo --attack` only. It listens on loopback, and fetches nothing but the metadata service: it is a stage
prop, not a tool. Three features have the bug, as real applications have it:

- `/preview?url=`    shows a link's target: a GET, with nothing else of the visitor's.
- `/forward?url=`    a reverse proxy: method and headers (`header=Name: value`) as asked, and proxies' X-Forwarded-For.
- `/webhook?url=`    "test your webhook": method and headers as asked, and nothing added.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from imdsctl.domain.metadata_endpoint import SERVICE_IPV4

FETCH_SECONDS_MAX = 2.0
ANSWER_BYTES_MAX = 64 * 1024
ALLOWED_HOSTS = (SERVICE_IPV4, "127.0.0.1")
"""The metadata service; 127.0.0.1 where `imdsctl run` has no namespaces and serves it there."""
NO_ANSWER = 504


def fetch(url: str, method: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """What a server says to a request: the status and the body. 504 when it says nothing in time."""
    if urllib.parse.urlsplit(url).hostname not in ALLOWED_HOSTS:
        return 403, b"this application is a stage prop: it fetches from the metadata service only"
    request = urllib.request.Request(url, method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=FETCH_SECONDS_MAX) as answer:
            return answer.status, answer.read(ANSWER_BYTES_MAX)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read(ANSWER_BYTES_MAX)
    except (OSError, ValueError) as error:
        return NO_ANSWER, f"no answer within {FETCH_SECONDS_MAX:g} s ({error})".encode()


class Application(BaseHTTPRequestHandler):
    """Answers with whatever the fetched server said, its status included."""

    def do_GET(self) -> None:
        page = urllib.parse.urlsplit(self.path)
        asked = urllib.parse.parse_qs(page.query)
        url = asked.get("url", [""])[0]
        method, headers = "GET", {}
        if page.path in ("/forward", "/webhook"):
            method = asked.get("method", ["GET"])[0]
            headers = dict(line.split(": ", 1) for line in asked.get("header", []) if ": " in line)
        if page.path == "/forward":
            headers["X-Forwarded-For"] = self.client_address[0]
        status, body = fetch(url, method, headers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the demo tells what happens."""


def main() -> int:
    """Listen on a free port of loopback, say which on standard output, and serve until ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    print(server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
