"""What in the environment would hide a program's calls is said before it runs."""

from __future__ import annotations

import pytest

from imdsctl.domain.diagnostics import Severity
from imdsctl.domain.run_environment import environment_warnings

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "codes"),
    [
        ({}, []),
        ({"AWS_EC2_METADATA_DISABLED": "TRUE"}, ["metadata-disabled"]),
        ({"AWS_EC2_METADATA_DISABLED": "false"}, []),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, ["credentials-elsewhere"]),
        ({"AWS_ACCESS_KEY_ID": ""}, []),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338"}, ["metadata-redirected"]),
        ({"http_proxy": PROXY}, ["metadata-proxied"]),
        ({"http_proxy": PROXY, "no_proxy": "localhost, 169.254.169.254"}, []),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, []),
        ({"https_proxy": PROXY}, []),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:16925"}, ["loopback-unreachable"]),
        ({"AWS_ENDPOINT_URL_STS": "http://[::1]:1/"}, ["loopback-unreachable"]),
        ({"AWS_ENDPOINT_URL": "http://localhost"}, ["loopback-unreachable"]),
        ({"AWS_ENDPOINT_URL": "https://localhost.example.com"}, []),
    ],
)
def test_warnings(environ: dict[str, str], codes: list[str]) -> None:
    found = environment_warnings(environ, namespaces=True, loopback=False)
    assert [each.code for each in found] == codes
    assert all(each.severity is Severity.WARNING and each.hint for each in found)


def test_the_hosts_loopback_is_reached_when_it_was_asked_for() -> None:
    assert not environment_warnings({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, namespaces=True, loopback=True)


def test_without_namespaces_the_endpoint_is_ours_and_a_proxy_does_not_matter() -> None:
    environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338", "http_proxy": PROXY}
    assert not environment_warnings(environ, namespaces=False, loopback=True)
