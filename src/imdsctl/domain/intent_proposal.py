"""An intent file to begin with, from what a scan saw: waves from the organization's own names, exceptions to decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from imdsctl.domain.evidence import Evidence, Use
from imdsctl.domain.exposure import Verdict, instance_exposure
from imdsctl.domain.observations import Account, InstanceSeen, RegionSeen, Scan
from imdsctl.domain.shown import shown

STAGES = (
    ("sandbox", ("sandbox", "playground", "lab", "labs", "training")),
    ("dev", ("dev", "development", "develop")),
    ("test", ("test", "testing", "qa", "ci", "integration")),
    ("staging", ("staging", "stage", "preprod", "pre-prod", "uat", "acceptance")),
    ("prod", ("prod", "production", "live")),
)
"""Names of environments, in the order in which one dares to change them."""
TAG_KEYS = ("environment", "env", "stage")
EXCEPTION_DAYS = 90
WORKLOADS_MAX = 30
MANAGED_MAX = 10
LAST_STAGE = STAGES[-1][0]
SMALL, MEDIUM = 0.2, 0.5
"""Shares of the instances: accounts in order of size fill `small` up to the first, `medium` up to the second."""


@dataclass
class Found:
    """What one pass over a scan remembers of it."""

    instances: Counter[str] = field(default_factory=Counter)
    """By account."""
    tags: Counter[tuple[str, str]] = field(default_factory=Counter)
    managed: Counter[str] = field(default_factory=Counter)
    """By who manages it."""
    used: dict[tuple[str, str], int] = field(default_factory=dict)
    """Workloads with evidence of IMDSv1: their criterion and a word on them, with how many instances."""
    exposed: int = 0


def look_over(scan: Scan, evidence: Evidence | None) -> Found:
    """Go through a scan once."""
    found = Found()
    for region in scan.regions:
        account = region.target.account_id
        found.instances[account] += len(region.instances)
        if region.defaults is not None and region.defaults.managed_by != "account":
            found.managed[f"Region defaults of {region.target} ({region.defaults.managed_by})"] += 1
        groups = {each: group.name for group in region.groups for each in group.instance_ids}
        for instance in region.instances:
            found.exposed += instance_exposure(instance.options).verdict is Verdict.EXPOSED
            found.tags.update((key, value) for key, value in instance.tags if key.lower() in TAG_KEYS)
            if instance.managed_by:
                found.managed[f"instances of {instance.managed_by}"] += 1
            if evidence and evidence.of(region.target, instance.instance_id).use is Use.USED:
                workload = _workload(region, instance, groups)
                found.used[workload] = found.used.get(workload, 0) + 1
    return found


def _workload(region: RegionSeen, instance: InstanceSeen, groups: dict[str, str]) -> tuple[str, str]:
    """The match of what an instance belongs to, as TOML, and a word on it."""
    here = f"account = {_text(region.target.account_id)}, region = {_text(region.target.region)}"
    if group := groups.get(instance.instance_id):
        return f"{{ {here}, resource = {_text(group)} }}", f"Auto Scaling group {group}"
    if instance.launch_template_id:
        template = instance.launch_template_id
        return f"{{ {here}, resource = {_text(template)} }}", f"launch template {template}"
    return f"{{ {here}, resource = {_text(instance.instance_id)} }}", f"instance {instance.instance_id}"


def proposal(scan: Scan, found: Found, evidence: Evidence | None, *, now: datetime) -> str:
    """The file's text, commented. It parses as it is: what needs a decision is commented out."""
    parts = [
        *_head(scan, found, evidence),
        *_wanted(),
        *_waves(scan.accounts, found),
        *_exceptions(found, evidence, now),
        *_managed(found),
    ]
    return "\n".join(parts) + "\n"


def _head(scan: Scan, found: Found, evidence: Evidence | None) -> Iterator[str]:
    total = sum(found.instances.values())
    yield "# What this organization's instance metadata service is to be: read by `imdsctl plan` and `imdsctl verify`."
    yield f"# Proposed from scan {scan.scan_id} of {scan.finished:%Y-%m-%d}: {len(scan.accounts)} accounts, {total}"
    yield f"# instances, {found.exposed} of which answer IMDSv1. It is yours now: change it, and keep it in git."
    yield "# Check it with `imdsctl intent check`; `imdsctl intent schema` teaches it to your editor."
    if evidence is None:
        yield "# Nobody asked who uses IMDSv1: `imdsctl evidence`, then `imdsctl init --force`, name who uses it."
    yield "version = 1"
    yield ""


def _wanted() -> Iterator[str]:
    yield from (
        "# HttpTokensEnforced, last of all, and only where no launch that is known would fail under it.",
        "enforce = true",
        "",
        "[region-defaults]",
        'http-tokens = "required"',
        "hop-limit-at-least = 2             # launches that say nothing may be container hosts",
        "",
        "[instances]",
        'http-tokens = "required"',
        'hop-limit-at-least = "auto"        # 2 where containers run, else 1; never lowered',
        "",
        "[launch-templates]",
        'http-tokens = "required"',
        "explicit = false                   # true: say it in the template, though the Region default would do",
        "",
        "[groups]",
        "refresh = false                    # true: replace a group's exposed instances instead of changing them",
        "",
        "[images]",
        'imds-support = "leave"             # "v2.0" cannot be undone',
        "",
        "# [[scope]]                        # wanted differently for a part; the most specific one wins",
        '# match = { ou = "Workloads/Legacy" }',
        "# enforce = false",
        "",
    )


# Waves


def _waves(accounts: Iterable[Account], found: Found) -> Iterator[str]:
    accounts = tuple(accounts)
    yield "# Waves: the first that matches a resource has it. What is in none is planned and not changed."
    waves = _by_unit(accounts, found) or _by_tag(found) or _by_size(accounts, found)
    for number, (name, match) in enumerate(waves):
        yield from _wave(name, match, pilot=number == 0 and name != LAST_STAGE, approval=name == LAST_STAGE)
    yield from _wave("rest", "", pilot=False, approval=bool(waves))


def _by_unit(accounts: Iterable[Account], found: Found) -> list[tuple[str, str]]:
    """Waves from organizational units that are called like environments."""
    units: dict[str, set[str]] = {}
    for account in accounts:
        parts = account.ou_path.split("/")
        for depth, part in enumerate(parts):
            if stage := _stage(part):
                units.setdefault(stage, set()).add(_literal("/".join(parts[: depth + 1])))
                break
    waves = [(stage, f"{{ ou = {_list(sorted(units[stage]))} }}") for stage, _ in STAGES if stage in units]
    if list(units) == [LAST_STAGE]:  # production is nobody's first wave
        waves = _pilot(accounts, found) + waves
    return waves


def _pilot(accounts: Iterable[Account], found: Found) -> list[tuple[str, str]]:
    """A wave of the smallest accounts that are in no environment's unit: at least one, where there are any."""
    others = [each for each in accounts if not any(map(_stage, each.ou_path.split("/")))]
    chosen: list[str] = []
    seen = 0
    for count, account_id in sorted((found.instances[each.account_id], each.account_id) for each in others):
        seen += count
        if chosen and seen > sum(found.instances.values()) * SMALL:
            break
        chosen.append(account_id)
    return [("pilot", f"{{ account = {_list(chosen)} }}")] if chosen else []


def _by_tag(found: Found) -> list[tuple[str, str]]:
    """Waves from the values of a tag that says which environment an instance is in."""
    keys = Counter(key for key, _ in found.tags)
    for key, _ in keys.most_common():
        values: dict[str, set[str]] = {}
        for tag, value in found.tags:
            if tag == key and (stage := _stage(value)):
                values.setdefault(stage, set()).add(f"{_literal(key)}={_literal(value)}")
        if len(values) > 1:
            return [(stage, f"{{ tag = {_list(sorted(values[stage]))} }}") for stage, _ in STAGES if stage in values]
    return []


def _by_size(accounts: Iterable[Account], found: Found) -> list[tuple[str, str]]:
    """Waves from the accounts' sizes: few instances first."""
    total = sum(found.instances.values())
    ordered = sorted((found.instances[each.account_id], each.account_id) for each in accounts)
    named: dict[str, list[str]] = {"small": [], "medium": []}
    seen = 0
    for count, account_id in ordered[: len(ordered) * 9 // 10]:
        seen += count
        if seen <= total * MEDIUM:
            named["small" if seen <= total * SMALL else "medium"].append(account_id)
    return [(name, f"{{ account = {_list(ids)} }}") for name, ids in named.items() if ids]


def _stage(name: str) -> str | None:
    whole = name.lower().replace("_", "-").replace(" ", "-")
    for stage, known in STAGES:
        if whole in known or any(word in known for word in whole.split("-")):
            return stage
    return None


def _wave(name: str, match: str, *, pilot: bool, approval: bool) -> Iterator[str]:
    yield ""
    yield "[[wave]]"
    yield f"name = {_text(name)}"
    if match:
        yield f"match = {match}"
    yield 'no-v1-calls = "14d"                # no call without a token in the look-back'
    if pilot:
        yield 'unknown-evidence = "allow"         # instances without datapoints; "stop" where it matters'
        yield 'soak = "1h"'
    else:
        yield 'unknown-evidence = "stop"'
        yield 'soak = "1d"                        # watch what was changed before the next wave'
        yield "rejected-calls-max = 0             # one rejected IMDSv1 call in the soak fails the wave"
        yield 'on-failure = "rollback"'
    if approval:
        yield "approval = true"
        yield '# windows = ["Mon-Fri 09:00-17:00 Europe/Berlin"]'


# Exceptions and what cannot be changed


def _exceptions(found: Found, evidence: Evidence | None, now: datetime) -> Iterator[str]:
    expires = (now + timedelta(days=EXCEPTION_DAYS)).date().isoformat()
    yield ""
    yield "# The register of exceptions: what must keep IMDSv1 for a while. Once expired, it is planned again and"
    yield "# `imdsctl verify` fails, naming its owner."
    if not found.used:
        why = "nothing that CloudWatch saw uses IMDSv1" if evidence else "an entry looks like this"
        used = {('{ tag = "team=payments" }', f"{why}"): 0}
    else:
        yield "# These use IMDSv1 today. Fix them, or name an owner and take the `#` away:"
        used = found.used
    for (match, word), count in sorted(used.items(), key=lambda each: (-each[1], each[0]))[:WORKLOADS_MAX]:
        instances = f": {count} {'instance uses' if count == 1 else 'instances use'} IMDSv1" if count else ""
        yield "#"
        yield f"# {shown(word)}{instances}"
        yield "# [[exception]]"
        yield f"# match = {match}"
        yield '# owner = "somebody@example.com"'
        yield '# reason = "its SDK is too old"'
        yield f"# expires = {expires}"
    if len(used) > WORKLOADS_MAX:
        yield f"# and {len(used) - WORKLOADS_MAX} more: `imdsctl report` lists them"


def _managed(found: Found) -> Iterator[str]:
    if found.managed:
        yield ""
        yield "# Managed by others: planned, and deferred until their operators change them."
        for who, count in found.managed.most_common(MANAGED_MAX):
            yield f"#   {shown(who)}: {count}"
        if len(found.managed) > MANAGED_MAX:
            yield f"#   and {len(found.managed) - MANAGED_MAX} more"


def _text(value: str) -> str:
    """A TOML basic string: what is not printable is spelt, and a lone surrogate, which TOML cannot say, is `?`."""
    return f'"{"".join(_spelt(sign) for sign in value)}"'


def _spelt(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    if sign.isprintable():
        return sign
    return "?" if "\ud800" <= sign <= "\udfff" else f"\\U{ord(sign):08x}"


def _literal(glob: str) -> str:
    """A text in which nothing is a glob's sign."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in glob)


def _list(texts: Iterable[str]) -> str:
    listed = [_text(each) for each in texts]
    return listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
