"""`imdsctl run`: a program where 169.254.169.254 answers as an instance, and whether it is ready for IMDSv2."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli.errors import EXIT_FOUND, interruptible, report, wants_colour
from imdsctl.cli.imds_options import (
    ConfigOption,
    HopLimitOption,
    HttpEndpointOption,
    HttpTokensOption,
    MetadataTagsOption,
    RoleOption,
)
from imdsctl.cli.local_connect import AccountOption, RegionOption, found_instance
from imdsctl.cli.local_servers import PortOption, StateOption
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.domain.options import HOP_LIMIT_MIN, MetadataOptions, Switch
from imdsctl.domain.readiness import FailOn
from imdsctl.domain.run_environment import environment_warnings

if TYPE_CHECKING:
    from imdsctl.imds.messages import Reply, Request
    from imdsctl.views.run import Report

HOPS_MAX = 63
"""A program farther away would need a hop limit that EC2 does not have."""
CONTEXT_SETTINGS = {"allow_interspersed_args": False}
"""What stands behind the program's name is the program's, also without `--`."""


class Network(StrEnum):
    """What the program reaches beside the metadata service."""

    NONE = "none"
    HOST_LOOPBACK = "host-loopback"


@dataclass(frozen=True, slots=True)
class Instance:
    """What the program meets: `respond` answers as this instance does."""

    instance_id: str
    options: MetadataOptions
    respond: Callable[[Request], Reply | Awaitable[Reply]]
    close: Callable[[], Awaitable[None]] | None = None


def command(
    program: Annotated[list[str], typer.Argument(metavar="COMMAND", show_default=False, help="What to run.")],
    instance_id: Annotated[
        str | None,
        typer.Option("--instance", metavar="ID", help="As on this instance of the local AWS, with its options."),
    ] = None,
    http_tokens: HttpTokensOption = None,
    hop_limit: HopLimitOption = None,
    http_endpoint: HttpEndpointOption = None,
    metadata_tags: MetadataTagsOption = False,
    role: RoleOption = None,
    config: ConfigOption = None,
    hops: Annotated[
        int,
        typer.Option("--hops", min=0, max=HOPS_MAX, help="Routers between instance and program; a container has 1."),
    ] = 0,
    network: Annotated[
        Network,
        typer.Option("--network", help="`host-loopback`: the program also reaches what listens on this machine."),
    ] = Network.NONE,
    no_namespaces: Annotated[
        bool,
        typer.Option("--no-namespaces", help="Point AWS SDKs at the service by a variable instead; no hop limit."),
    ] = False,
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="Exit with 3 when IMDSv1 was used, or (`any-v1-attempt`) was used or refused."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, as the last line of standard output.")
    ] = False,
    report_file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the report as JSON into a file.")
    ] = None,
    account: AccountOption = None,
    region: RegionOption = None,
    state: StateOption = None,
    port: PortOption = None,
) -> int:
    """Run a program as on an instance, and tell if it is ready for IMDSv2 required, and from which hop limit on.

    Exit codes: the program's own, 3 with --fail-on, 127 and 126 when it cannot be run, 1 and 2 when nothing was run.
    """
    from imdsctl.adapters.run_session import Plan, run
    from imdsctl.domain.readiness import fails, judge
    from imdsctl.views.run import Report

    asked = MetadataOptions(http_tokens, hop_limit, http_endpoint, None, Switch.ENABLED if metadata_tags else None)
    namespaces = sys.platform == "linux" and not no_namespaces
    loopback = network is Network.HOST_LOOPBACK or not namespaces
    if hops and not namespaces:
        raise _usage("`--hops` needs network namespaces", "leave `--no-namespaces` out; they are Linux's")
    if instance_id is not None and (asked or role is not None or config is not None):
        raise _usage(
            "`--instance` has options and a role of its own",
            "change them with `aws ec2 modify-instance-metadata-options`, or leave `--instance` out",
        )
    if report_file is not None:
        _check_writable(report_file)
    with interruptible("nothing was run, nothing is left"):
        if instance_id is None:
            instance = _alone(asked, role, config)
        else:
            instance = _of_local_aws(instance_id, account, region, state, port)
        warnings = [] if namespaces else [_without_namespaces()]
        warnings += environment_warnings(os.environ, namespaces=namespaces, loopback=loopback)
        if warnings:
            report(warnings)
        outcome = run(Plan(program, dict(os.environ), hops, namespaces, loopback), instance.respond, instance.close)
    done = Report(
        program,
        outcome.code,
        instance.instance_id,
        str(instance.options.http_tokens),
        instance.options.http_put_response_hop_limit or HOP_LIMIT_MIN,
        hops,
        namespaces,
        outcome.usages,
        judge(outcome.usages),
    )
    _tell(done, json, report_file)
    return EXIT_FOUND if fails(outcome.usages, fail_on) else outcome.code


def _alone(asked: MetadataOptions, role: str | None, config: Path | None) -> Instance:
    """An instance that does not exist, as `imds serve` has it."""
    from imdsctl.adapters.data_directory import data_directory
    from imdsctl.adapters.identity_keys import LazySigner, kept_signer
    from imdsctl.adapters.mock_service import read_mock_file
    from imdsctl.imds.mock import MockSource
    from imdsctl.imds.mock_choice import make_mock
    from imdsctl.imds.mock_file import MockFile
    from imdsctl.imds.service import MetadataService

    now = datetime.now(UTC)
    mock = make_mock(MockFile() if config is None else read_mock_file(config), asked, role, (), now=now)
    signer = LazySigner(lambda: kept_signer(data_directory()))
    service = MetadataService(MockSource(mock, now), secrets.token_bytes(32), signer=signer)
    return Instance(mock.instance.instance_id, mock.options, lambda request: service.respond(request, time.time()))


def _of_local_aws(
    instance_id: str, account: str | None, region: str | None, state: Path | None, port: int | None
) -> Instance:
    from imdsctl.adapters.local_metadata import remote_responder

    entry, found = found_instance(instance_id, account, region, state, port)
    if found.state != "running":
        raise DiagnosticError(
            Diagnostic(
                "instance-not-running",
                f"{found.instance_id} is {found.state}: it has no metadata service",
                subject=entry.url,
                hint=f"`aws ec2 start-instances --instance-ids {found.instance_id}`",
            )
        )
    responder = remote_responder(entry, found)
    return Instance(found.instance_id, found.options, responder, responder.aclose)


def _tell(done: Report, json: bool, report_file: Path | None) -> None:
    from imdsctl.views.run import run_json, run_text

    print(f"\n{run_text(done, colour=wants_colour(sys.stderr))}", file=sys.stderr)
    if report_file is not None:
        try:
            with open(report_file, "w", encoding="utf-8", opener=_private) as file:
                file.write(run_json(done))
        except OSError as error:
            raise _report_unwritable(report_file, error) from None
    if json:
        # The program may have left its last line without an end.
        sys.stdout.write("\n" + run_json(done))


def _check_writable(file: Path) -> None:
    """Before the program runs: afterwards it would be too late."""
    from imdsctl.adapters.private_file import check_free

    check_free(file)
    try:
        with open(file, "a", opener=_private):
            pass
    except OSError as error:
        raise _report_unwritable(file, error) from None


def _private(path: str, flags: int) -> int:
    """A new file is its user's alone. It may also be a pipe, or /dev/stdout: it is not replaced by another."""
    return os.open(path, flags, 0o600)


def _report_unwritable(file: Path, error: OSError) -> DiagnosticError:
    why = (error.strerror or str(error)).lower()
    found = Diagnostic("report-unwritable", f"the report cannot be written: {why}", str(file), "name another file")
    return DiagnosticError(found, exit_code=2)


def _usage(summary: str, hint: str) -> DiagnosticError:
    return DiagnosticError(Diagnostic("usage", summary, hint=hint), exit_code=2)


def _without_namespaces() -> Diagnostic:
    return Diagnostic(
        "run-without-namespaces",
        "the program finds the service by AWS_EC2_METADATA_SERVICE_ENDPOINT only: the hop limit does not hold, and "
        "programs that call 169.254.169.254 whatever the variable says are not seen",
        hint="on Linux, as root or with user namespaces allowed, leave `--no-namespaces` out",
        severity=Severity.WARNING,
    )
