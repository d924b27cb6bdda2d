"""Where a service of a Region is, and for which scope its requests are signed.

AWS's own rules say so (the endpoint rule sets that come with botocore, evaluated by botocore); the user's settings
may name another address. Source: https://docs.aws.amazon.com/general/latest/gr/rande.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from imdsctl.adapters.models import load_data, load_partitions
from imdsctl.adapters.profile import Profile
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

# A Region's name becomes part of a host name: nothing else may get in.
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SIGNING_NAMES = {
    "cloudwatch": "monitoring",
    "emr": "elasticmapreduce",
}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and the scope of its signatures. `base_path` has no slash at its end; "" is the usual one."""

    scheme: str
    host: str
    port: int
    base_path: str
    signing_name: str
    signing_region: str

    @property
    def authority(self) -> str:
        """The `Host` header: no port when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if _PORTS[self.scheme] == self.port else f"{host}:{self.port}"


class Endpoints:
    """The endpoints of one profile, each resolved once."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._known: dict[tuple[str, str], Endpoint] = {}
        self._rules: dict[str, Any] = {}

    def resolve(self, service: str, region: str) -> Endpoint:
        """The endpoint of a service (botocore's name for it) in a Region.

        Raises `DiagnosticError` `endpoint-unknown` when the settings ask for an endpoint that does not exist.
        """
        key = (service, region)
        endpoint = self._known.get(key)
        if endpoint is None:
            endpoint = self._known[key] = self._resolve(service, region)
        return endpoint

    def _resolve(self, service: str, region: str) -> Endpoint:
        if not _REGION.fullmatch(region):
            raise _unknown(service, region, "that is not the name of a Region")
        name = _SIGNING_NAMES.get(service, service)
        url = self._profile.configured_endpoint_url(service)
        if url is not None:  # an own address needs no rules; botocore signs for the Region that was asked for
            return _endpoint(url, name, region)
        variant = {
            "UseFIPS": self._profile.switch("use_fips_endpoint", "AWS_USE_FIPS_ENDPOINT"),
            "UseDualStack": self._profile.switch("use_dualstack_endpoint", "AWS_USE_DUALSTACK_ENDPOINT"),
        }
        url, scope = self._by_rules(service, region, variant)
        if not scope and any(variant.values()):
            # The rules name the one Region of Organizations only beside its usual address.
            _, scope = self._by_rules(service, region, dict.fromkeys(variant, False))
        return _endpoint(url, scope.get("signingName", name), scope.get("signingRegion", region))

    def _by_rules(self, service: str, region: str, variant: dict[str, bool]) -> tuple[str, dict[str, str]]:
        """AWS's own address, and what the rules say about the signature's scope (often nothing)."""
        import botocore.exceptions
        from botocore.endpoint_provider import EndpointProvider

        rules = self._rules.get(service)
        if rules is None:
            rules = self._rules[service] = EndpointProvider(
                load_data(service, "endpoint-rule-set-1"), load_partitions()
            )
        # A token from STS's one global endpoint is refused in opt-in Regions, so that endpoint is never asked.
        inputs = {"Region": region, "UseGlobalEndpoint": False, **variant}
        try:
            found = rules.resolve_endpoint(**{k: v for k, v in inputs.items() if k in rules.ruleset.parameters})
        except botocore.exceptions.BotoCoreError as error:
            raise _unknown(service, region, str(error).strip().rstrip(".")) from error
        schemes = (each for each in found.properties.get("authSchemes", ()) if each["name"] == "sigv4")
        return found.url, next(schemes, {})


def _unknown(service: str, region: str, reason: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            code="endpoint-unknown",
            summary=f"there is no endpoint for `{service}` in `{region}`: {reason}",
            hint="check the Region's name and AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT",
        ),
        exit_code=2,
    )


_USER = re.compile("//.*@")
"""A user and a password in a URL."""


def _endpoint(url: str, signing_name: str, signing_region: str) -> Endpoint:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname or not url.isascii():
        raise DiagnosticError(
            Diagnostic(
                code="endpoint-invalid",
                summary=f"`{_USER.sub('//***@', url)}` is not the address of an AWS endpoint",
                hint="write AWS_ENDPOINT_URL (or `endpoint_url`) like `http://127.0.0.1:16925`",
            ),
            exit_code=2,
        )
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port if port is not None else _PORTS[parts.scheme],
        base_path=parts.path.rstrip("/"),
        signing_name=signing_name,
        signing_region=signing_region,
    )
