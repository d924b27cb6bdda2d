"""Results as text for a person. No decisions are taken here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from imdsctl.domain.exposure import Verdict
from imdsctl.domain.observations import PolicyKind
from imdsctl.domain.options import AWS_NAMES
from imdsctl.domain.precedence import IMAGE_IMDS_V2, Layer
from imdsctl.domain.scope import services_left_out
from imdsctl.domain.shown import shown, shown_lines
from imdsctl.domain.verdicts import NOTHING_SEEN, Count, Counts
from imdsctl.views.diagnostics import painted

if TYPE_CHECKING:
    from imdsctl.domain.observations import Account, AccountUnseen, Scan
    from imdsctl.domain.options import AccountDefaults
    from imdsctl.domain.verdicts import ScanSummary, TargetSummary
    from imdsctl.fleet.explain import Explanation

_VERDICT_COLOURS = {Verdict.ENFORCED: "green", Verdict.EXPOSED: "red", Verdict.UNKNOWN: "yellow"}
QUIET_REGIONS_MIN = 3
"""So many Regions of an account with the same default and nothing in them share a line."""


ACCOUNTS_BY_REGION_MAX = 40
"""So many accounts are shown Region by Region; of a larger organization each account is one line."""


def scan_text(
    scan: Scan, summary: ScanSummary, *, colour: bool = False, complete: bool = True, earlier: int = 0
) -> str:
    """A table by account and Region, totals, what stayed unknown, and the next command.

    One that is not `complete` was stopped: it is gone on with, not planned from.
    `earlier` targets were read by an earlier run of a scan that is still unfinished: they are not in the numbers.
    """
    parts = [_accounts_table(scan, summary, colour), _totals(scan, summary, colour), _policies(scan)]
    if earlier:
        parts.append(f"{_many(earlier, 'Region')} that an earlier run has read are not in these numbers.")
    if summary.unknowns:
        parts.append(_unknowns(summary, colour))
    if summary.not_inspectable:
        parts.append("\n".join(not_inspectable_lines(summary.not_inspectable)))
    parts.append(_next_step(summary) if complete else f"Next: `imdsctl scan --resume {scan.scan_id}`")
    return "\n\n".join(part for part in parts if part)


def verdict_text(verdict: Verdict, colour: bool) -> str:
    """A verdict in its colour."""
    return painted(str(verdict), _VERDICT_COLOURS[verdict], colour)


def count_text(count: Count, colour: bool = False) -> str:
    """`12 exposed, 8 enforced, 1 unknown`; what is zero is left out, nothing at all is a dash."""
    said = ((count.exposed, Verdict.EXPOSED), (count.enforced, Verdict.ENFORCED), (count.unknown, Verdict.UNKNOWN))
    parts = [painted(f"{number:,} {verdict}", _VERDICT_COLOURS[verdict], colour) for number, verdict in said if number]
    return ", ".join(parts) or "-"


def percent(part: float | None) -> str:
    """Whole percents, of which 100 means all and 0 means none; a dash where there is nothing."""
    if part is None:
        return "-"
    rounded = round(100 * part)
    if rounded == 100 and part < 1:
        return ">99 %"
    return "<1 %" if rounded == 0 and part > 0 else f"{rounded} %"


def table_text(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Columns as wide as their widest cell, whatever colours the cells have. A cell is one line, whatever is in it."""
    rows = [[cell if cell.isprintable() else _one_line(cell) for cell in row] for row in rows]
    widths = [max(visible_length(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        (
            indent
            + "  ".join(cell + " " * (width - visible_length(cell)) for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _one_line(cell: str) -> str:
    return shown_lines(cell).replace("\n", "\\n").replace("\r", "\\r").replace("\t", " ")


_PAINT = re.compile(r"\x1b\[[0-9;]*m")


def visible_length(text: str) -> int:
    """Columns that a terminal needs for it."""
    return len(_PAINT.sub("", text)) if "\x1b" in text else len(text)


_COLUMNS: tuple[tuple[str, Callable[[Counts], Count], bool], ...] = (
    ("INSTANCES", lambda counts: counts.instances, True),
    ("TEMPLATES", lambda counts: counts.templates, True),
    ("OTHER SOURCES", lambda counts: counts.sources, False),
    ("SERVICES", lambda counts: counts.services, False),
    ("IMAGES", lambda counts: counts.images, True),
)
"""Heading, what stands in the column, and whether it is there when it is empty everywhere."""


def _accounts_table(scan: Scan, summary: ScanSummary, colour: bool) -> str:
    by_account: dict[str, list[TargetSummary]] = {}
    for target in summary.targets:
        by_account.setdefault(target.target.account_id, []).append(target)
    if not by_account:
        return ""
    columns = [(name, of) for name, of, always in _COLUMNS if always or of(summary.counts).total]
    headings: dict[int, str] = {}
    folded = len(by_account) > ACCOUNTS_BY_REGION_MAX
    rows = [["ACCOUNT" if folded else "REGION", "DEFAULT", *(name for name, _ in columns)]]
    for account in scan.accounts:
        targets = by_account.get(account.account_id)
        if not targets:
            continue
        if folded:
            counts = sum((each.counts for each in targets), Counts())
            default = count_text(Count.of(each.default.verdict for each in targets), colour)
            cells = [count_text(of(counts), colour) for _, of in columns]
            rows.append([_account_heading(account, colour), default, *cells])
        else:
            headings[len(rows)] = _account_heading(account, colour)
            rows.extend(_region_rows(targets, columns, colour))
    lines = table_text(rows).split("\n")
    out = [painted(lines[0], "dim", colour)]
    for number, line in enumerate(lines[1:], 1):
        if number in headings:
            out.append(headings[number])
        out.append(line)
    return "\n".join(out)


def _account_heading(account: Account, colour: bool) -> str:
    words = (
        painted(account.account_id, "bold", colour),
        shown(account.name),
        f"({shown(account.ou_path)})" if account.ou_path else "",
    )
    return " ".join(word for word in words if word)


def _region_rows(
    targets: Sequence[TargetSummary], columns: Sequence[tuple[str, Callable[[Counts], Count]]], colour: bool
) -> list[list[str]]:
    quiet: dict[str, list[str]] = {}
    rows = []
    for each in targets:
        default = _default_text(each.default.verdict, each.defaults, colour)
        if each.parts_unseen or each.counts.total:
            cells = [count_text(of(each.counts), colour) for _, of in columns]
            rows.append([each.target.region, default, *cells])
        else:
            quiet.setdefault(default, []).append(each.target.region)
    for default, regions in quiet.items():
        many = len(regions) >= QUIET_REGIONS_MIN
        names = [f"{len(regions)} {'other ' if rows else ''}Regions"] if many else regions
        rows.extend([[name, default, *("-" for _ in columns)] for name in names])
    return rows


def _default_text(verdict: Verdict, defaults: AccountDefaults | None, colour: bool) -> str:
    """The verdict on a Region's default, and what stands behind one that does not enforce."""
    if verdict is not Verdict.EXPOSED or defaults is None:
        return verdict_text(verdict, colour)
    return f"{verdict_text(verdict, colour)} ({defaults.http_tokens or 'no default'})"


def _totals(scan: Scan, summary: ScanSummary, colour: bool) -> str:
    entered = len({each.target.account_id for each in summary.targets})
    seconds = (scan.finished - scan.started).total_seconds()
    head = (
        f"{_many(len(summary.targets), 'Region')} in {_many(entered, 'account')}, "
        f"{_many(sum(each.instances_seen for each in summary.targets), 'instance')}; "
        f"{_many(scan.calls, 'call')}, {seconds:.1f} s, scan {scan.scan_id}"
    )
    counts = summary.counts
    named = (
        ("Region defaults", summary.defaults, True),
        ("Instances", counts.instances, True),
        ("Launch templates", counts.templates, True),
        ("Launch configurations", counts.configurations, False),
        ("Auto Scaling groups", counts.groups, False),
        ("Fleets and Spot requests", counts.fleets, False),
        ("Other services", counts.services, False),
        ("Images", counts.images, True),
    )
    rows = [[name, count_text(count, colour)] for name, count, always in named if always or count.total]
    if services_left_out(scan.scope):
        rows.append(["Other services", "left out (--no-services): enforcement is not planned from this scan"])
    return f"{head}\n{table_text(rows)}"


def _policies(scan: Scan) -> str:
    """Which of the organization's policies were seen; those of AWS (`FullAWSAccess`) restrict nothing."""
    own = [each for each in scan.policies if not each.aws_managed]
    if not own:
        return ""
    lines = [
        f"  {shown(each.name)} ({each.policy_id}): {_KINDS[each.kind]}, attached to {_names(each.targets) or 'nothing'}"
        for each in own
    ]
    effective = len(scan.effective_policies)
    said = f"; a declarative policy is in force in {_many(effective, 'account')}" if effective else ""
    return "\n".join([f"Policies of the organization ({len(own)}){said}:", *lines])


_KINDS = {
    PolicyKind.SERVICE_CONTROL_POLICY: "service control policy",
    PolicyKind.DECLARATIVE_POLICY_EC2: "declarative policy for EC2",
}


def _unknowns(summary: ScanSummary, colour: bool) -> str:
    head = painted(f"Unknown ({len(summary.unknowns)}), which is not the same as enforced:", "yellow", colour)
    grouped: dict[tuple[str, str], list[str]] = {}
    for each in summary.unknowns:
        code = f" ({each.unseen.code})" if each.unseen.code else ""
        grouped.setdefault((f"{each.unseen.what}{code}", each.unseen.reason), []).append(each.subject)
    lines = [shown(f"  {_names(subjects)}: {what}: {reason}") for (what, reason), subjects in grouped.items()]
    return "\n".join([head, *lines])


NAMES_MAX = 4


def _names(names: Sequence[str]) -> str:
    if len(names) <= NAMES_MAX:
        return ", ".join(names)
    return f"{', '.join(names[: NAMES_MAX - 1])} and {len(names) - NAMES_MAX + 1} more"


def not_inspectable_lines(places: Iterable[AccountUnseen]) -> list[str]:
    """What nobody can look into: how much, and a line for the accounts that have the same Regions not enabled."""
    regions: dict[tuple[str, ...], list[str]] = {}
    by_account: dict[str, list[str]] = {}
    lines = []
    for each in places:
        if each.region is None:
            lines.append(shown(f"  {each.account_id}: {each.unseen.reason}"))
        else:
            by_account.setdefault(each.account_id, []).append(each.region)
    for account_id, names in by_account.items():
        regions.setdefault(tuple(names), []).append(account_id)
    for region_names, accounts in regions.items():
        lines.append(f"  {_names(accounts)}: not enabled: {', '.join(region_names)}")
    count = sum(len(names) for names in by_account.values())
    inactive = len(lines) - len(regions)
    counts = [_many(inactive, "account") if inactive else "", f"{_many(count, 'Region')} not enabled" if count else ""]
    return [f"Not inspectable: {', '.join(filter(None, counts))}", *lines]


def _next_step(summary: ScanSummary) -> str:
    if not summary.targets and not summary.unknowns:
        return f"{NOTHING_SEEN} Next: widen the selection."
    if summary.exposed:
        return "Next: `imdsctl plan -o plan.json` finds the smallest set of changes that closes this."
    if summary.unknowns:
        return "Nothing that was seen allows IMDSv1. Next: make the unknown visible, then `imdsctl scan` again."
    return "Nothing that was seen allows IMDSv1. Next: `imdsctl verify` proves it from a fresh scan."


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def explanation_text(explanation: Explanation, *, colour: bool = False) -> str:
    """The verdict, the layers side by side with the deciding value in brackets, enforcement, and the notes."""
    verdict = verdict_text(explanation.exposure.verdict, colour)
    source = "" if explanation.live else f", as scan {explanation.source} saw it"
    head = f"{explanation.kind} " if explanation.subject != "a launch" else ""
    parts = [
        f"{head}{painted(shown(explanation.subject), 'bold', colour)} in {explanation.target}{source}\n"
        f"{verdict}: {shown(explanation.exposure.reason)}",
        _layers_table(explanation, colour),
        "\n".join(f"  {layer}: {shown(text)}" for layer, text in explanation.sources.items()),
        _enforcement(explanation),
    ]
    if explanation.held is not None:
        changed = explanation.changed_by_relaunch.to_aws()
        held = explanation.held.to_aws()
        words = ", ".join(f"{name} {held.get(name, 'unset')} -> {value}" for name, value in changed.items())
        parts.append(f"A relaunch would change {words}." if changed else "A relaunch would get the same options.")
    if explanation.notes:
        parts.append("\n".join(f"note: {shown(note)}" for note in explanation.notes))
    return "\n\n".join(parts)


def _layers_table(explanation: Explanation, colour: bool) -> str:
    resolution = explanation.resolution
    held = explanation.held
    head = ["OPTION", *(["NOW"] if held is not None else []), *(str(layer).upper() for layer, _ in resolution.layers)]
    rows = [[*head, "A RELAUNCH GETS" if held is not None else "RESULT"]]
    for name, aws in AWS_NAMES.items():
        decided = getattr(resolution, name)
        row = [aws, *([_value(getattr(held, name))] if held is not None else [])]
        for layer, says in resolution.layers:
            text = _value(getattr(says, name))
            if layer is Layer.IMAGE and explanation.image_unknown and getattr(IMAGE_IMDS_V2, name) is not None:
                text = "?"
            row.append(painted(f"[{text}]", "bold", colour) if layer is decided.layer else text)
        rows.append([*row, _value(decided.value)])
    lines = table_text(rows).split("\n")
    return "\n".join(
        [painted(lines[0], "dim", colour), *lines[1:], "  [ ]: the layer that decides; -: it says nothing"]
    )


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def _enforcement(explanation: Explanation) -> str:
    resolution = explanation.resolution
    if not resolution.enforced:
        return "Enforcement: off (HttpTokensEnforced is not enabled): no launch is refused."
    if resolution.refused:
        return "Enforcement: on (HttpTokensEnforced=enabled): this launch is REFUSED with UnsupportedOperation."
    return "Enforcement: on (HttpTokensEnforced=enabled): this launch passes, it requires tokens."
