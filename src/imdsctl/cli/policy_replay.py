"""`imdsctl policy replay`: which recorded calls would guardrails have stopped?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, interruptible, report, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.fleet.selection import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies
    from imdsctl.codify.asked import Known
    from imdsctl.codify.policy_set import Written
    from imdsctl.codify.replay import Replay
    from imdsctl.domain.observations import Scan
    from imdsctl.fleet.selection import Selection


def command(
    ctx: typer.Context,
    cloudtrail: Annotated[
        list[Path] | None,
        typer.Option(
            "--cloudtrail", metavar="PATH", help="CloudTrail files or folders, exports of Athena or Lake; repeat it."
        ),
    ] = None,
    lookup: Annotated[
        bool, typer.Option("--lookup", help="Ask CloudTrail's event history of the last 90 days.")
    ] = False,
    look_back: Annotated[
        str, typer.Option("--look-back", metavar="TIME", help="For `--lookup`: `14d`, `36h`.")
    ] = "14d",
    scp: Annotated[
        list[Path] | None, typer.Option("--scp", metavar="FILE", help="A guardrail to try; repeat it.")
    ] = None,
    generated: Annotated[
        bool, typer.Option("--generated", help="What `imdsctl policy generate scp` makes, without exceptions.")
    ] = False,
    scan: Annotated[
        str | None,
        typer.Option(
            "--scan", metavar="ID", help="A scan (or `latest`) that knows the launch templates that are named."
        ),
    ] = None,
    management_account: Annotated[
        str | None, typer.Option("--management-account", metavar="ID", help="SCPs do not bind this account.")
    ] = None,
    accounts: options.Accounts = None,
    regions: options.Regions = None,
    profile: options.Profile = None,
    role: options.Role = ROLE_NAME,
    db: options.Database = None,
    json: options.Json = False,
    full: Annotated[bool, typer.Option("--full", help="Show every principal, template and pipeline.")] = False,
) -> int:
    """See which recorded calls a guardrail would have stopped, whose they are, and what each must change.

    Reads only. Exit codes: 0 nothing would be stopped, 1 something would be or is unknown, or a part could not be read
    (partial), 2 wrong command line, 130 interrupted.
    """
    if bool(cloudtrail) is lookup:
        summary = "name either files (`--cloudtrail`) or `--lookup`"
        raise DiagnosticError(Diagnostic("option-conflict", summary, hint="one of the two"), exit_code=2)
    from imdsctl.codify.replay import Replay, Verdict
    from imdsctl.views.replay import STOPPING, replay_json, replay_text

    deps = dependencies.of(ctx)
    with interruptible("nothing was changed: a replay only reads"):
        guardrails = _guardrails(scp, generated)
        seen = _scan(deps, scan, db) if scan or lookup else None
        replay = Replay(guardrails, known=_known(seen) if scan else None, management_account=management_account)
        if cloudtrail:
            problems = _files(cloudtrail, replay)
        else:
            selection = options.selection(role=role, accounts=accounts, regions=regions)
            problems = options.run_async(_looked_up(deps, profile, selection, seen, look_back, replay))
    if problems:
        report(problems)
    if json:
        print(replay_json(replay, partial=bool(problems)))
    else:
        print(replay_text(replay, full=full, partial=bool(problems), colour=wants_colour(sys.stdout)))
    return EXIT_FAILED if problems or replay.total(*STOPPING, Verdict.UNKNOWN) else EXIT_DONE


def _guardrails(files: Sequence[Path] | None, generated: bool) -> tuple[Written, ...]:
    from imdsctl.adapters.policy_set_files import read_policies
    from imdsctl.codify.guardrails import Settings, guardrails
    from imdsctl.codify.packing import Form, packed
    from imdsctl.codify.policy_set import written
    from imdsctl.policy.document import PolicyKind

    if bool(files) is generated:
        summary = "name either guardrails (`--scp`) or `--generated`"
        raise DiagnosticError(Diagnostic("option-conflict", summary, hint="one of the two"), exit_code=2)
    if files:
        return read_policies(files, PolicyKind.SCP)
    documents = packed(Form.SCP, guardrails(Settings()), "imdsv2")
    return tuple(written(each.minified, name=each.name, kind=PolicyKind.SCP) for each in documents)


def _scan(deps: Dependencies, scan: str | None, db: str | None) -> Scan | None:
    store = deps.scans(db)
    found = store.load(scan) if scan and scan != "latest" else store.latest()
    if found is None and scan:
        hint = "run `imdsctl scan` first"
        raise DiagnosticError(Diagnostic("scan-missing", "there is no such scan", hint=hint), exit_code=2)
    return found


def _known(scan: Scan | None) -> dict[tuple[str, str], Known]:
    """The launch templates that a scan saw, target by target: options and image of each version."""
    from imdsctl.codify.asked import Known
    from imdsctl.codify.scan_known import templates_of

    known: dict[tuple[str, str], Known] = {}
    for region in scan.regions if scan is not None else ():
        if region.templates:
            known[region.target.account_id, region.target.region] = Known(templates=templates_of(region))
    return known


def _files(paths: Sequence[Path], replay: Replay) -> list[Diagnostic]:
    from imdsctl.adapters.trail_records import Reader
    from imdsctl.codify.recorded import NAMES

    reader = Reader(NAMES, replay.add)
    reader.files(paths)
    replay.events += reader.skipped
    return reader.problems


async def _looked_up(
    deps: Dependencies,
    profile: str | None,
    selection: Selection,
    scan: Scan | None,
    look_back: str,
    replay: Replay,
) -> list[Diagnostic]:
    """The targets of the latest scan; without one, this account in the Regions that are named."""
    import orjson

    from imdsctl.codify.recorded import NAMES
    from imdsctl.domain.observations import Target
    from imdsctl.fleet.scan_scope import scope_of
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import home_region, who_am_i
    from imdsctl.fleet.trail_lookup import look_up_events

    span = options.duration("--look-back", look_back)
    assert span is not None
    problems: list[Diagnostic] = []
    unusable: dict[str, int] = {}

    def take(target: Target, text: str) -> None:
        try:
            replay.add(orjson.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            unusable[str(target)] = unusable.get(str(target), 0) + 1

    async with deps.aws(profile) as aws:
        caller = await who_am_i(aws)
        if scan is not None:
            targets = [each.target for each in scope_of(scan, selection)]
        else:
            wanted = selection.regions or (home_region(aws),)
            targets = [Target(caller.account_id, each) for each in wanted]
        enter = Sessions(aws, caller, selection.role, deps.now)
        now = deps.now()
        failed = await look_up_events(aws, enter, targets, sorted(NAMES), now - span, now, take)
    for target, why in failed:
        problems.append(
            Diagnostic("cloudtrail-unasked", why, str(target), "the other targets were asked", Severity.WARNING)
        )
    for place, count in unusable.items():
        summary = f"{count:,} event(s) cannot be used"
        problems.append(
            Diagnostic("cloudtrail-record-unusable", summary, place, "the others were replayed", Severity.WARNING)
        )
    return problems
