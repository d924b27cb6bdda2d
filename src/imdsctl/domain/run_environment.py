"""What in a program's environment keeps `imdsctl run` from seeing its calls. Pure: variables in, warnings out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from imdsctl.domain.diagnostics import Diagnostic, Severity
from imdsctl.domain.metadata_endpoint import SERVICE_IPV4

ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT_MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
DISABLED = "AWS_EC2_METADATA_DISABLED"
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
"""What the SDKs look at before the metadata service (AWS SDKs and Tools Reference Guide, credential providers)."""
_LOOPBACK_URL = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(?=[:/]|$)", re.IGNORECASE)


def loopback_variables(environ: Mapping[str, str]) -> Sequence[str]:
    """The variables that send AWS calls to this machine's loopback: AWS_ENDPOINT_URL and those for one service."""
    return sorted(
        name for name, value in environ.items() if name.startswith("AWS_ENDPOINT_URL") and _LOOPBACK_URL.match(value)
    )


def environment_warnings(environ: Mapping[str, str], *, namespaces: bool, loopback: bool) -> Sequence[Diagnostic]:
    """`namespaces`: the program meets the service at its own addresses; `loopback`: it reaches the host's."""
    return tuple(_warnings(environ, namespaces, loopback))


def _warnings(environ: Mapping[str, str], namespaces: bool, loopback: bool) -> Iterable[Diagnostic]:
    if environ.get(DISABLED, "").lower() == "true":
        yield Diagnostic(
            "metadata-disabled",
            f"{DISABLED} is `true`: AWS SDKs will not call at all",
            hint=f"unset {DISABLED}",
            severity=Severity.WARNING,
        )
    named = [name for name in CREDENTIALS if environ.get(name)]
    if named:
        yield Diagnostic(
            "credentials-elsewhere",
            f"{named[0]} is set: AWS SDKs take those credentials and do not ask the metadata service for any",
            hint=f"`env {' '.join(f'-u {name}' for name in named)} imdsctl run ...`, to see it as on an instance",
            severity=Severity.WARNING,
        )
    if not namespaces:
        return
    if environ.get(ENDPOINT):
        yield Diagnostic(
            "metadata-redirected",
            f"{ENDPOINT} sends AWS SDKs to {environ[ENDPOINT]}, not to the service of this run",
            hint=f"unset {ENDPOINT}",
            severity=Severity.WARNING,
        )
    proxy = next((name for name in ("http_proxy", "HTTP_PROXY") if environ.get(name)), None)
    exempt = re.split(r"[,\s]+", environ.get("no_proxy") or environ.get("NO_PROXY") or "")
    if proxy and not {"*", SERVICE_IPV4} & set(exempt):
        yield Diagnostic(
            "metadata-proxied",
            f"{proxy} is set: boto3, curl and others ask the proxy for the metadata",
            hint=f"add {SERVICE_IPV4} to no_proxy",
            severity=Severity.WARNING,
        )
    local = loopback_variables(environ)
    if local and not loopback:
        yield Diagnostic(
            "loopback-unreachable",
            f"{local[0]} leads to this machine's loopback, which the program does not reach",
            hint="use `--network host-loopback`",
            severity=Severity.WARNING,
        )
