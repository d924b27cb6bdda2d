"""Three-valued verdicts: is IMDSv1 ruled out here, possible here, or could it not be seen?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import Resolution


class Verdict(StrEnum):
    """`unknown` is never counted as `enforced`."""

    ENFORCED = "enforced"
    EXPOSED = "exposed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Exposure:
    """A verdict and, in a clause, why."""

    verdict: Verdict
    reason: str
    quoted: tuple[str, ...] = ()
    """What in `reason` is not ours: names that users gave, and AWS's own words."""


def instance_exposure(options: MetadataOptions) -> Exposure:
    """An existing instance, judged by the options that it holds (the Region default no longer matters to it)."""
    if options.http_endpoint is Switch.DISABLED:
        return Exposure(Verdict.ENFORCED, "the metadata service is off (HttpEndpoint=disabled)")
    if options.http_tokens is HttpTokens.REQUIRED:
        return Exposure(Verdict.ENFORCED, "HttpTokens=required")
    if options.http_tokens is HttpTokens.OPTIONAL:
        return Exposure(Verdict.EXPOSED, "HttpTokens=optional: IMDSv1 answers")
    return Exposure(Verdict.UNKNOWN, "the answer does not say HttpTokens")


def launch_exposure(resolution: Resolution) -> Exposure:
    """What the next launch from a template or an image would be."""
    decided = resolution.http_tokens
    if decided.value is HttpTokens.REQUIRED:
        return Exposure(Verdict.ENFORCED, f"HttpTokens=required, decided by the {decided.layer}")
    if resolution.refused:
        return Exposure(
            Verdict.ENFORCED,
            f"HttpTokens=optional, decided by the {decided.layer}: HttpTokensEnforced refuses the launch",
        )
    if resolution.http_endpoint.value is Switch.DISABLED:
        return Exposure(
            Verdict.ENFORCED,
            f"the metadata service is off (HttpEndpoint=disabled, decided by the {resolution.http_endpoint.layer})",
        )
    return Exposure(Verdict.EXPOSED, f"HttpTokens=optional, decided by the {decided.layer}")


def region_exposure(defaults: AccountDefaults) -> Exposure:
    """A Region's switch: enforced only if no launch can choose IMDSv1, however it is made."""
    if defaults.enforced:
        return Exposure(Verdict.ENFORCED, "HttpTokensEnforced=enabled: a launch with IMDSv1 is refused")
    if defaults.http_tokens is HttpTokens.REQUIRED:
        return Exposure(Verdict.EXPOSED, "the default is required, yet a launch may still choose optional")
    if defaults.http_tokens is HttpTokens.OPTIONAL:
        return Exposure(Verdict.EXPOSED, "the default is optional, which also overrides an image's v2.0")
    return Exposure(Verdict.EXPOSED, "no default: a launch that says nothing gets IMDSv1")


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a whole: exposed if any part is, else unknown if any part is, else enforced."""
    seen = set(verdicts)
    if Verdict.EXPOSED in seen:
        return Verdict.EXPOSED
    return Verdict.UNKNOWN if Verdict.UNKNOWN in seen else Verdict.ENFORCED
