"""What an export does not have, and why: what the scan could not read is said, never passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imdsctl.domain.observations import AccountUnseen, Scan, Target
from imdsctl.domain.verdicts import NOT_INSPECTABLE

_POLICIES = ("policies of the organization", "policy ")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not in the export. `unread`: because the scan could not read it."""

    subject: str
    reason: str
    unread: bool = False


def unread_policies(scan: Scan) -> Iterator[LeftOut]:
    """The policies of the organization that the scan was refused."""
    for each in scan.unseen:
        if _is_policy(each):
            yield LeftOut(each.unseen.what, each.unseen.reason, unread=True)


def unread_places(scan: Scan, chosen: Callable[[Target], bool]) -> Iterator[LeftOut]:
    """Accounts and Regions of which the scan saw nothing; those that nobody can look into are none of them."""
    for each in scan.unseen:
        if _is_policy(each) or each.unseen.what.startswith("effective") or each.unseen.code in NOT_INSPECTABLE:
            continue
        if chosen(Target(each.account_id, each.region or "")):
            subject = f"{each.account_id}/{each.region}" if each.region else each.account_id
            yield LeftOut(subject, each.unseen.reason, unread=True)


def _is_policy(each: AccountUnseen) -> bool:
    return each.unseen.what.startswith(_POLICIES)
