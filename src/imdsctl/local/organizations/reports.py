"""The account status report of declarative policies: what the Regions of many accounts have, counted.

Source: Organizations User Guide, "Generating the account status report"; EC2 API Reference, AttributeSummary and
RegionalSummary. Of the attributes that declarative policies have, the instance metadata defaults are here.

A report tells what was when it was started. Only what somebody may have changed by then is copied; what a Region that
nobody had touched says follows from the world's seed, and is worked out when the summary is first asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imdsctl.domain.options import DEFAULTS_AWS_NAMES, HOP_LIMIT_NO_PREFERENCE, AccountDefaults
from imdsctl.policy.declarative import METADATA_DEFAULTS, NO_PREFERENCE, EffectivePolicy

RUNNING, COMPLETE, CANCELLED = "running", "complete", "cancelled"


@dataclass(frozen=True, slots=True)
class Covered:
    """An account of a report: its Regions, and the policy over it."""

    regions: tuple[str, ...]
    policy: EffectivePolicy


@dataclass(slots=True)
class Report:
    """A report with what it has to remember. `touched` holds the accounts' own defaults by (account, Region)."""

    id: str
    region: str
    bucket: str
    prefix: str | None
    target: str
    tags: Mapping[str, str]
    started: datetime
    ended: datetime
    accounts: Mapping[str, Covered]
    failed: int
    touched: Mapping[tuple[str, str], AccountDefaults]
    cancelled: datetime | None = None
    _summaries: list[dict[str, Any]] | None = field(default=None, repr=False)

    def status(self, now: datetime) -> str:
        """`running`, `complete` or `cancelled`."""
        if self.cancelled is not None:
            return CANCELLED
        return RUNNING if now < self.ended else COMPLETE

    def summaries(self, first_defaults: Callable[[str, str], AccountDefaults]) -> list[dict[str, Any]]:
        """AWS's `AttributeSummaries`. `first_defaults(account_id, region)` is what an untouched Region says."""
        if self._summaries is None:
            found = {
                account_id: {
                    region: covered.policy.over(
                        self.touched.get((account_id, region)) or first_defaults(account_id, region)
                    )
                    for region in covered.regions
                }
                for account_id, covered in self.accounts.items()
            }
            self._summaries = [_summary(name, found) for name in DEFAULTS_AWS_NAMES]
        return self._summaries


def _summary(name: str, found: Mapping[str, Mapping[str, AccountDefaults]]) -> dict[str, Any]:
    """One attribute: the value seen most often, and how many accounts have it, everywhere and in each Region."""
    values = {
        account_id: {region: _value(name, defaults) for region, defaults in regions.items()}
        for account_id, regions in found.items()
    }
    seen = Counter(value for regions in values.values() for value in regions.values())
    # Between values seen equally often the choice is the alphabet's, so that it is always the same.
    most = min(seen, key=lambda value: (-seen[value], value), default="")
    matched: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for regions in values.values():
        for region, value in regions.items():
            total[region] += 1
            matched[region] += value == most
    agreeing = sum(all(value == most for value in regions.values()) for regions in values.values())
    return {
        "AttributeName": f"{METADATA_DEFAULTS}.{name}",
        "MostFrequentValue": most,
        "NumberOfMatchedAccounts": agreeing,
        "NumberOfUnmatchedAccounts": len(values) - agreeing,
        "RegionalSummaries": [
            {
                "RegionName": region,
                "NumberOfMatchedAccounts": matched[region],
                "NumberOfUnmatchedAccounts": total[region] - matched[region],
            }
            for region in sorted(total)
        ],
    }


def _value(name: str, defaults: AccountDefaults) -> str:
    """A setting as a declarative policy would write it."""
    value = getattr(defaults, name)
    if value is None:
        return str(HOP_LIMIT_NO_PREFERENCE) if name == "http_put_response_hop_limit" else NO_PREFERENCE
    return str(value)
