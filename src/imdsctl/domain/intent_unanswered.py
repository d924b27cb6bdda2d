"""Matches of an intent that nothing answers to: most often a name that was mistyped, and so changes nothing. Pure.

An exception that covers nothing protects nobody, and nothing else would say so before its workload is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from imdsctl.domain.diagnostics import Diagnostic, Severity
from imdsctl.domain.intent import Intent
from imdsctl.domain.intent_match import Home, Match
from imdsctl.domain.observations import Account, AccountUnseen, RegionSeen, Scan
from imdsctl.domain.planner_here import Here, Tags
from imdsctl.domain.verdicts import NOT_INSPECTABLE


@dataclass(frozen=True, slots=True)
class _Asked:
    match: Match
    title: str
    place: str = ""


def unanswered(scan: Scan, intent: Intent, at: datetime) -> tuple[Diagnostic, ...]:
    """A warning for each scope, wave, exception and exclusion that matches nothing in the scan.

    Only a scan of everything can tell: after a narrowed one there is nothing to say. What may be in an account or a
    Region that could not be read counts as there.
    """
    left = [] if scan.scope else list(_asked(intent, at))
    if not left:
        return ()
    accounts = {each.account_id: each for each in scan.accounts}
    if not any(each.ou_path for each in scan.accounts):
        left = [each for each in left if not each.match.ou]  # nobody knows the units, and the plan says so
    for gap in scan.unseen:
        home = _home(accounts, gap.account_id, gap.region or "")
        left = [each for each in left if not _may_be_in(gap, each.match, home)]
    for region in scan.regions:
        if not left:
            break
        left = _unanswered_in(region, _home(accounts, region.target.account_id, region.target.region), left, at)
    return tuple(
        Diagnostic(
            "intent-unanswered",
            f"nothing answers to {each.match}: {each.title} covers nothing",
            each.place or None,
            "correct its spelling (`imdsctl scan` shows what there is), or delete it",
            severity=Severity.WARNING,
        )
        for each in left
    )


def _asked(intent: Intent, at: datetime) -> Iterator[_Asked]:
    for scope in intent.scopes:
        yield _Asked(scope.match, "this scope", scope.place)
    for rule in intent.waves:
        yield _Asked(rule.match, f"wave `{rule.wave.name}`", rule.place)
    for each in intent.exemptions:
        if each.holds(at):
            yield _Asked(each.match, f"the exception of {each.owner}", each.place)
    for key, names in (
        ("account", intent.exclude_accounts),
        ("region", intent.exclude_regions),
        ("resource", intent.exclude_resources),
    ):
        for name in sorted(names):
            yield _Asked(Match(**{key: (name,)}), "the exclusion")


def _home(accounts: dict[str, Account], account_id: str, region: str) -> Home:
    account = accounts.get(account_id)
    return Home(account_id, region, account.name if account else "", account.ou_path if account else "")


def _may_be_in(gap: AccountUnseen, match: Match, home: Home) -> bool:
    if match.narrow and not match.region and gap.unseen.code in NOT_INSPECTABLE:
        return False  # nobody means a resource in a Region that the account has not enabled, without saying so
    # Of a whole account nobody knows the Regions: whatever the match calls its own may be one.
    return (match if gap.region else replace(match, region=())).holds_at(home)


def _unanswered_in(region: RegionSeen, home: Home, asked: list[_Asked], at: datetime) -> list[_Asked]:
    """Those of `asked` that nothing in this Region answers to either."""
    here = [each for each in asked if each.match.holds_at(home)]
    narrow = [each for each in here if each.match.narrow]
    if region.unseen:  # what was not read may be it
        narrow = []
    if narrow:
        for names, tags in _resources(Here(region, home, Intent(), at, None)):
            narrow = [each for each in narrow if not each.match.picks(names, tags)]
            if not narrow:
                break
    return [each for each in asked if each not in here or each in narrow]


def _resources(here: Here) -> Iterator[tuple[Iterable[str], Tags]]:
    """Everything that a match can pick: all that it answers to, and its tags."""
    region = here.region
    yield from (((each.name,), each.tags) for each in region.groups)
    yield from (((each.template_id, each.template_name), each.tags) for each in region.templates)
    yield from (((each.fleet_id,), each.tags) for each in region.fleets)
    yield from (((each.resource, each.name), each.tags) for each in region.services)
    yield from (((each.name,), ()) for each in region.configurations)
    yield from (((each.image_id, each.name), ()) for each in region.images)
    yield from ((here.names_of(each), each.tags) for each in region.instances)
