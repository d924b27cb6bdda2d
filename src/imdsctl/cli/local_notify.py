"""`imdsctl local notify`: let AWS announce something to an instance of the local AWS, to rehearse what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from imdsctl.cli.local_connect import AccountOption, InstanceArgument, RegionOption, found_instance
from imdsctl.cli.local_servers import PortOption, StateOption
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.imds.facts import EVENT_CODES


def notify(
    instance: InstanceArgument,
    spot_interruption: Annotated[
        bool,
        typer.Option("--spot-interruption", help="A Spot Instance is interrupted in two minutes, as its request says."),
    ] = False,
    rebalance: Annotated[
        bool, typer.Option("--rebalance", help="A Spot Instance is at elevated risk of interruption.")
    ] = False,
    event: Annotated[
        str | None,
        typer.Option(
            "--event", metavar="CODE", help=f"A scheduled event: {', '.join(EVENT_CODES)}.", show_default=False
        ),
    ] = None,
    in_hours: Annotated[
        float | None,
        typer.Option("--in-hours", min=0.001, max=8760, help="When the event is due (default: in two weeks)."),
    ] = None,
    cancel: Annotated[
        str | None, typer.Option("--cancel", metavar="EVENT-ID", help="Cancel an event.", show_default=False)
    ] = None,
    account: AccountOption = None,
    region: RegionOption = None,
    state: StateOption = None,
    port: PortOption = None,
) -> int:
    """Announce something to an instance: it shows in its metadata, and in DescribeInstanceStatus.

    A Spot interruption is carried out after two minutes; a scheduled event is announced only.
    """
    from imdsctl.adapters import local_metadata

    wanted: list[tuple[str, dict[str, Any]]] = []
    if spot_interruption:
        wanted.append(("AnnounceInterruption", {}))
    if rebalance:
        wanted.append(("RecommendRebalance", {}))
    if event is not None:
        when = None if in_hours is None else (datetime.now(UTC) + timedelta(hours=in_hours)).isoformat()
        wanted.append(("ScheduleEvent", {"Code": event, "NotBefore": when}))
    if cancel is not None:
        wanted.append(("CancelEvent", {"EventId": cancel}))
    if len(wanted) != 1 or (in_hours is not None and event is None):
        raise DiagnosticError(
            Diagnostic(
                "notice-missing",
                "say one thing that the instance is to be told",
                hint="`--spot-interruption`, `--rebalance`, `--event CODE` (with `--in-hours`), or `--cancel EVENT-ID`",
            ),
            exit_code=2,
        )
    entry, found = found_instance(instance, account, region, state, port)
    [(action, params)] = wanted
    answer = local_metadata.notify(entry, found, action, **params)
    said = ", ".join(f"{name} {value}" for name, value in answer.items())
    typer.echo(f"{found.instance_id}: {said or 'canceled'}")
    return 0
