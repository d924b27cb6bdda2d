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

_ARN = r"arn:[a-z-]*:[^\s`'\")]+"
_NAMED = r"`[^`]*`"
_ACCOUNT = r"(?<!\d)\d{12}(?!\d)"
_KINDS = "i|lt|ami|sir|sfr|fleet|mi|vol|snap|eni|vpc|subnet|sg|ou|r|p|o"
_RESOURCE = rf"\b(?:{_KINDS})-[0-9a-z]{{4,}}(?:-[0-9a-z]{{4,}})*\b"
_ADDRESS = r"\b\d{1,3}(?:\.\d{1,3}){3}\b|[\w.+-]+@[\w-]+\.[\w.-]+"
_TELLING = re.compile(f"{_ARN}|{_ADDRESS}|(?P<named>{_NAMED})|(?P<account>{_ACCOUNT})|(?P<resource>{_RESOURCE})")
_KIND = re.compile(rf"({_KINDS})-[0-9a-z]{{4,}}")
_HIDDEN = "(hidden)"
_OURS = re.compile(r"$|no (datapoints|evidence)|running, yet|launched \d|[a-z-]+ when it was scanned")
"""How the reasons begin that are not AWS's for there being no evidence (`domain.metric_evidence`)."""
_ONE = re.compile(r"(instance|template|launch configuration|policy) (?!tags$|versions in use$).", re.DOTALL)
"""What could not be seen is one thing with its name, not a part of the scan ("template tags")."""


class Redactor:
    """`key` is random bytes of the caller's; it must not be kept."""

    def __init__(self, accounts: Iterable[Account], key: bytes) -> None:
        self._key = key
        shuffled = sorted({account.account_id for account in accounts}, key=self._digest)
        self._numbers = {account_id: number for number, account_id in enumerate(shuffled, 1)}

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
        kind = _KIND.match(resource)
        return f"{kind.group(1)}-{self._digest(resource)}" if kind else f"name-{self._digest(resource)}"

    def text(self, text: str, quoted: Iterable[str] = ()) -> str:
        """A sentence of ours without anything that tells whose it is; `quoted` is what in it is not ours."""
        longest_first = sorted({each for each in quoted if each}, key=lambda each: (-len(each), each))
        if not longest_first:
            return _TELLING.sub(self._instead, text)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        return "".join(
            self._quoted(part) if number % 2 else _TELLING.sub(self._instead, part) for number, part in enumerate(parts)
        )

    def _quoted(self, part: str) -> str:
        # A name of one word is a thing that stands elsewhere in the report; a sentence is AWS's.
        return _HIDDEN if len(part.split()) > 1 else self.resource(part)

    def _instead(self, found: re.Match[str]) -> str:
        match found.lastgroup:
            case "named":
                return f"`{self.resource(found.group()[1:-1])}`"
            case "account":
                return self.account_id(found.group())
            case "resource":
                return self.resource(found.group())
        return _HIDDEN

    def finding(self, finding: Finding) -> Finding:
        """A finding, with its verdict, its figures and its Region."""
        evidence = finding.evidence
        target = self.target(finding.target)
        resource = self._part(finding.resource) if finding.rule.id in _PLACES else self.resource(finding.resource)
        if evidence is not None and target is not None:
            evidence = replace(
                evidence,
                target=target,
                instance_id=self.resource(evidence.instance_id),
                reason=evidence.reason if _OURS.match(evidence.reason) else _HIDDEN,
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
            reason=self.text(finding.reason, finding.quoted),
            quoted=(),
            name=finding.name if finding.rule.id == "unseen" else "",
            evidence=evidence,
            workload=workload,
            accepted=_HIDDEN if finding.accepted else "",
        )

    def _part(self, what: str) -> str:
        one = _ONE.match(what)
        return f"{one.group(1)} {self.resource(what[len(one.group(1)) + 1 :])}" if one else what

    def _digest(self, text: str) -> str:
        return blake2b(text.encode("utf-8", "surrogatepass"), key=self._key[:64], digest_size=8).hexdigest()


_NOUNS = (*NOUNS.values(), STACK)
_PLACES = frozenset({"region-default", "unseen", "not-inspectable"})
"""Rules whose resource is a Region's name or a part of the scan ("instances"): it tells nobody who it is."""
