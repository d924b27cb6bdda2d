"""`imdsctl explain`: what does it get, and why?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, interruptible, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import Target
from imdsctl.fleet.selection import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies
    from imdsctl.domain.observations import Scan
    from imdsctl.fleet.explain import Explanation, Parts, Subject

_LAUNCH = "With --launch"


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """The command line of `explain`, checked."""

    subject: Subject
    account: str | None = None
    region: str | None = None
    profile: str | None = None
    role: str = ROLE_NAME
    database: str | None = None
    from_scan: bool = False
    json: bool = False


def command(
    ctx: typer.Context,
    resource: Annotated[
        str | None,
        typer.Argument(
            metavar="RESOURCE",
            help="An instance (i-...), a launch template (lt-... or its name, with :VERSION, :$Latest or the default "
            "version), or an image (ami-...); also as a scan prints it, ACCOUNT/REGION/ID.",
            show_default=False,
        ),
    ] = None,
    launch: Annotated[bool, typer.Option("--launch", help="Explain a launch that has not happened.")] = False,
    http_tokens: Annotated[
        str | None, typer.Option(metavar="optional|required", help="HttpTokens.", rich_help_panel=_LAUNCH)
    ] = None,
    hop_limit: Annotated[
        int | None, typer.Option(metavar="1..64", help="HttpPutResponseHopLimit.", rich_help_panel=_LAUNCH)
    ] = None,
    http_endpoint: Annotated[
        str | None, typer.Option(metavar="enabled|disabled", help="HttpEndpoint.", rich_help_panel=_LAUNCH)
    ] = None,
    http_protocol_ipv6: Annotated[
        str | None, typer.Option(metavar="enabled|disabled", help="HttpProtocolIpv6.", rich_help_panel=_LAUNCH)
    ] = None,
    instance_metadata_tags: Annotated[
        str | None, typer.Option(metavar="enabled|disabled", help="InstanceMetadataTags.", rich_help_panel=_LAUNCH)
    ] = None,
    launch_template: Annotated[
        str | None,
        typer.Option(metavar="ID|NAME[:VERSION]", help="The launch template.", rich_help_panel=_LAUNCH),
    ] = None,
    image_id: Annotated[str | None, typer.Option(metavar="ID", help="The image.", rich_help_panel=_LAUNCH)] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="The account.  [default: where the latest scan saw it, or yours]")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="REGION", help="The Region.  [default: where the latest scan saw it, or yours]"),
    ] = None,
    from_scan: Annotated[
        bool, typer.Option("--from-scan", help="Answer from the latest scan; ask AWS nothing.")
    ] = False,
    profile: options.Profile = None,
    role: options.Role = ROLE_NAME,
    db: options.Database = None,
    json: options.Json = False,
) -> int:
    """Show what an instance, a template, an image or a launch gets, option by option, and which layer decides.

    Exit codes: 0 explained, 1 failed, 2 wrong command line or input, 130 interrupted.
    """
    from imdsctl.fleet.explain import Kind, Subject, launch_options, parse_resource

    asked = {
        "HttpTokens": http_tokens,
        "HttpPutResponseHopLimit": hop_limit,
        "HttpEndpoint": http_endpoint,
        "HttpProtocolIpv6": http_protocol_ipv6,
        "InstanceMetadataTags": instance_metadata_tags,
    }
    place: Target | None = None
    if launch:
        if resource is not None:
            raise _usage("`--launch` and a resource exclude each other", "ask for one of them")
        subject = Subject(
            Kind.LAUNCH, launch=launch_options(asked), template=launch_template or None, image_id=image_id or None
        )
    else:
        if any(value is not None for value in (*asked.values(), launch_template, image_id)):
            raise _usage("launch parameters were given without `--launch`", "add `--launch`, or leave them out")
        subject, place = parse_resource(resource or "")
    checked = ExplainOptions(
        subject,
        account or (place.account_id if place else None),
        region or (place.region if place else None),
        profile,
        role,
        db,
        from_scan,
        json,
    )
    return run(checked, dependencies.of(ctx))


def run(asked: ExplainOptions, deps: Dependencies) -> int:
    """Read, explain, print, and give the exit code."""
    from imdsctl.fleet.explain import explain

    with interruptible("nothing was changed, `explain` only reads"):
        parts = _from_scan(asked, deps) if asked.from_scan else _live(asked, deps)
    _show(explain(asked.subject, parts), asked)
    return EXIT_DONE


def _live(asked: ExplainOptions, deps: Dependencies) -> Parts:
    from imdsctl.fleet.explain import Kind, locate, read_live

    account, region = asked.account, asked.region
    if region is None and asked.subject.kind is not Kind.LAUNCH:
        scan = deps.scans(asked.database).latest()
        seen = locate(scan, asked.subject) if scan else None
        if seen is not None and account in (None, seen.account_id):
            account, region = seen.account_id, seen.region

    async def read() -> Parts:
        async with deps.aws(asked.profile) as aws:
            return await read_live(aws, asked.subject, account_id=account, region=region, role=asked.role)

    return options.run_async(read())


def _from_scan(asked: ExplainOptions, deps: Dependencies) -> Parts:
    from imdsctl.fleet.explain import from_scan

    scan = deps.scans(asked.database).latest()
    if scan is None:
        raise DiagnosticError(
            Diagnostic("scan-missing", "there is no scan to answer from", hint="run `imdsctl scan` first")
        )
    return from_scan(scan, asked.subject, _place_in(scan, asked))


def _place_in(scan: Scan, asked: ExplainOptions) -> Target | None:
    """The one target of the scan that the options name; None when they leave it to the scan."""
    if asked.account is None and asked.region is None:
        return None
    found = [
        each.target
        for each in scan.regions
        if asked.account in (None, each.target.account_id) and asked.region in (None, each.target.region)
    ]
    if len(found) == 1:
        return found[0]
    from imdsctl.fleet.explain import locate

    seen = locate(scan, asked.subject)
    if seen in found:
        return seen
    raise _usage(
        f"{len(found) or 'no'} targets of scan {scan.scan_id} are meant", "name both `--account` and `--region`"
    )


def _show(explanation: Explanation, asked: ExplainOptions) -> None:
    if asked.json:
        from imdsctl.views.json import explanation_json

        sys.stdout.write(explanation_json(explanation))
    else:
        from imdsctl.views.text import explanation_text

        print(explanation_text(explanation, colour=wants_colour(sys.stdout)))


def _usage(summary: str, hint: str) -> DiagnosticError:
    return DiagnosticError(Diagnostic("usage", summary, hint=hint), exit_code=2)
