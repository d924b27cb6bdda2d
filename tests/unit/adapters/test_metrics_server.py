"""The page of metrics, over a real socket on loopback."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from imdsctl.adapters.metrics_server import serving
from imdsctl.domain.diagnostics import DiagnosticError

fetch = build_opener(ProxyHandler({})).open


def test_every_scrape_gets_the_page_as_it_is_then() -> None:
    pages = iter(["one 1\n", "two 2\n"])
    with serving(0, lambda: next(pages)) as port:
        for expected in (b"one 1\n", b"two 2\n"):
            with fetch(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
                assert answer.read() == expected
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_other_paths_lead_nowhere() -> None:
    with serving(0, lambda: "") as port, pytest.raises(HTTPError) as refused:
        fetch(f"http://127.0.0.1:{port}/etc/passwd", timeout=20)
    assert refused.value.code == 404
    refused.value.close()


def test_a_port_in_use_is_said() -> None:
    with serving(0, lambda: "") as port, pytest.raises(DiagnosticError) as refused, serving(port, lambda: ""):
        pass
    [said] = refused.value.diagnostics
    assert (said.code, said.subject) == ("port-in-use", f"127.0.0.1:{port}")
