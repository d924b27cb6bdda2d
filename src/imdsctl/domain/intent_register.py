"""The register of exceptions asked about one resource, for reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from imdsctl.domain.intent import Intent
from imdsctl.domain.intent_match import Home
from imdsctl.domain.observations import Account, Scan, Target
from imdsctl.domain.roll_up import GROUP_TAG

Tags = tuple[tuple[str, str], ...]
_NAMING_TAGS = frozenset({GROUP_TAG, "aws:ec2launchtemplate:id"})
"""Tags that AWS puts on an instance: the group and the launch template that it came from."""


def accepts(scan: Scan, intent: Intent, at: datetime) -> Callable[[Target, str, Tags], str]:
    """Who answers for a resource, until when (`billing@example.com, until 2027-03-31`); empty when nobody does.

    A resource is an id, or a launch template's id with `:` and a version; a Region's name means its default.
    """
    accounts = {account.account_id: account for account in scan.accounts}
    holding = [each for each in intent.exemptions if each.holds(at)]

    def accepted(target: Target, resource: str, tags: Tags) -> str:
        account = accounts.get(target.account_id, Account(target.account_id, ""))
        home = Home(target.account_id, target.region, account.name, account.ou_path)
        names = (resource, resource.partition(":")[0], *(value for key, value in tags if key in _NAMING_TAGS))
        whole = resource == target.region
        for each in holding:
            picked = not each.match.narrow if whole else each.match.picks(names, tags)
            if picked and each.match.holds_at(home):
                return f"{each.owner}, until {each.expires.isoformat()}"
        return ""

    return accepted
