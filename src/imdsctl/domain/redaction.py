"""A report that can be shown to others: account ids, names and resource ids give way to pseudonyms.

The same thing has the same pseudonym throughout one report, another one in the next. The key is random and not kept:
nobody can line two reports up, or try all twelve-digit numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b

from imdsctl.domain.findings import STACK, Finding
from imdsctl.domain.observations import Account, Target
from imdsctl.domain.roll_up import NOUNS

_ARN = re.compile(r"arn:[a-z-]*:[^\s`'\"),;]+")
_ACCOUNT = re.compile(r"(?<!\d)\d{12}(?!\d)")
_RESOURCE = re.compile(
    r"\b(i|lt|ami|r|sir|sfr|fleet|mi|vol|snap|eni|vpc|subnet|sg|ou|r|p|o)-[0-9a-z]{4,}(?:-[0-9a-z]{4,})*\b"
)
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|[\w.+-]+@[\w-]+\.[\w.-]+")
_NAMED = re.compile(r"`[^`]*`")
_HIDDEN = "(hidden)"


class Redactor:
    """`key` is random bytes of the caller's; it must not be kept."""

    def __init__(self, accounts: Iterable[Account], key: bytes) -> None:
        self._key = key
        accounts = tuple(accounts)
        shuffled = sorted({account.account_id for account in accounts}, key=self._digest)
        self._numbers = {account_id: number for number, account_id in enumerate(shuffled, 1)}
        names = {account.name for account in accounts if len(account.name) > 2}
        names |= {part for account in accounts for part in account.ou_path.split("/") if len(part) > 2}
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        self._names = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def account_id(self, account_id: str) -> str:
        """`account-0007`; one that is not in the scan gets a pseudonym too."""
        number = self._numbers.get(account_id)
        return f"account-{number:04d}" if number else f"account-x{self._digest(account_id)}"

    def account(self, account: Account) -> Account:
        """An account without its id, its name and its units' names."""
        path = "/".join(f"unit-{self._digest(part)}" for part in account.ou_path.split("/") if part)
        return Account(self.account_id(account.account_id), "", account.state, path)

    def target(self, target: Target | None) -> Target | None:
        """Regions stay: they tell nobody who it is."""
        return Target(self.account_id(target.account_id), target.region) if target else None

    def resource(self, resource: str) -> str:
        """An id keeps its kind (`i-`); a name keeps nothing."""
        kind = _RESOURCE.match(resource)
        return f"{kind.group(1)}-{self._digest(resource)}" if kind else f"name-{self._digest(resource)}"

    def text(self, text: str) -> str:
        """A sentence, of AWS's or ours, without anything that tells whose it is."""
        text = _ARN.sub(_HIDDEN, text)
        text = _NAMED.sub(lambda found: f"`{self.resource(found.group()[1:-1])}`", text)
        text = _ACCOUNT.sub(lambda found: self.account_id(found.group()), text)
        text = _RESOURCE.sub(lambda found: self.resource(found.group()), text)
        text = _ADDRESS.sub(_HIDDEN, text)
        return self._names.sub(_HIDDEN, text) if self._names else text

    def finding(self, finding: Finding) -> Finding:
        """A finding, with its verdict, its figures and its Region."""
        evidence = finding.evidence
        target = self.target(finding.target)
        resource = finding.resource if finding.rule.id in _PLACES else self.resource(finding.resource)
        if evidence is not None and target is not None:
            evidence = replace(
                evidence,
                target=target,
                instance_id=self.resource(evidence.instance_id),
                reason=self.text(evidence.reason),
            )
        workload = finding.workload
        if workload:
            noun = next((each for each in _NOUNS if workload.startswith(f"{each} ")), "workload")
            workload = f"{noun} {self.resource(workload.removeprefix(f'{noun} '))}"
        return replace(
            finding,
            target=target,
            account_id=self.account_id(finding.account_id),
            resource=resource,
            reason=self.text(finding.reason),
            name=finding.name if finding.rule.id == "unseen" else "",
            evidence=evidence,
            workload=workload,
            accepted=_HIDDEN if finding.accepted else "",
        )

    def _digest(self, text: str) -> str:
        return blake2b(text.encode(), key=self._key[:64], digest_size=4).hexdigest()


_NOUNS = (*NOUNS.values(), STACK)
_PLACES = frozenset({"region-default", "unseen"})
"""Rules whose resource is a Region's name or a part of the scan ("instances"): it tells nobody who it is."""
