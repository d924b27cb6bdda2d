"""What in a program's environment keeps `imdsctl run` from seeing its calls. Pure: variables in, warnings out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imdsctl.domain.diagnostics import Diagnostic, Severity

ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT_MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
DISABLED = "AWS_EC2_METADATA_DISABLED"
SERVICE_IPV4 = "169.254.169.254"
_LOOPBACK_URL = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(?=[:/]|$)", re.IGNORECASE)


def loopback_urls(environ: Mapping[str, str]) -> Sequence[str]:
    """The variables that send AWS calls to this machine's loopback: AWS_ENDPOINT_URL and those for one service."""
    return sorted(
        name for name, value in environ.items() if name.startswith("AWS_ENDPOINT_URL") and _LOOPBACK_URL.match(value)
    )


def environment_warnings(environ: Mapping[str, str], *, namespaces: bool, loopback: bool) -> Sequence[Diagnostic]:
    """`namespaces`: the program meets the service at its own addresses; `loopback`: it reaches the host's."""
    return tuple(_warnings(environ, namespaces, loopback))


def _warnings(environ: Mapping[str, str], namespaces: bool, loopback: bool) -> list[Diagnostic]:
    found = []
    if environ.get(DISABLED, "").lower() == "true":
        found.append(
            _warning("metadata-disabled", f"{DISABLED} is `true`: AWS SDKs will not call at all", f"unset {DISABLED}")
        )
    if namespaces and environ.get(ENDPOINT):
        found.append(
            _warning(
                "metadata-redirected",
                f"{ENDPOINT} sends AWS SDKs to {environ[ENDPOINT]}, not to the service of this run",
                f"unset {ENDPOINT}",
            )
        )
    proxy = next((name for name in ("http_proxy", "HTTP_PROXY") if environ.get(name)), None)
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if namespaces and proxy and exempt != "*" and SERVICE_IPV4 not in re.split(r"[,\s]+", exempt):
        found.append(
            _warning(
                "metadata-proxied",
                f"{proxy} is set: boto3, curl and others ask the proxy for the metadata",
                f"add {SERVICE_IPV4} to no_proxy",
            )
        )
    local = loopback_urls(environ)
    if namespaces and not loopback and local:
        found.append(
            _warning(
                "loopback-unreachable",
                f"{local[0]} is on this machine's loopback, which the program does not reach",
                "use `--network host-loopback`",
            )
        )
    return found


def _warning(code: str, summary: str, hint: str) -> Diagnostic:
    return Diagnostic(code=code, summary=summary, hint=hint, severity=Severity.WARNING)
