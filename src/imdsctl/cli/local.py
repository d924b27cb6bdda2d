"""`imdsctl local`: an AWS of your own on this machine, to rehearse on."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.cli.local_connect import certificate, connect
from imdsctl.cli.local_notify import notify
from imdsctl.cli.local_servers import PortOption, StateOption, only, registry_here, running
from imdsctl.cli.local_state import reset, restore, snapshot
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.regions import COMMERCIAL_REGIONS, DEFAULT_REGIONS
from imdsctl.local.throttle import Throttling

if TYPE_CHECKING:
    from imdsctl.adapters.local_registry import Entry, Registry
    from imdsctl.adapters.state_directory import StateDirectory
    from imdsctl.local.faults import Faults
    from imdsctl.local.spec import WorldSpec
    from imdsctl.local.world import World

PORT = 16925
"""From 169.254, where the metadata service lives; registered to nobody and below the ephemeral ports."""
ACCOUNTS = 12
ACCOUNTS_MAX = 50_000
INSTANCES = 20
SEED = 2019
START_SECONDS_MAX = 60.0
END_SECONDS_MAX = 15.0
POLL_SECONDS = 0.02
FORMAT_VERSION = 1

app = typer.Typer(help="An AWS of your own on this machine, to rehearse on.", no_args_is_help=True)


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = PORT,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it answers, and let it run on.")] = False,
    state: StateOption = None,
    accounts: Annotated[
        int | None, typer.Option(min=1, max=ACCOUNTS_MAX, help=f"Accounts of the organization (default: {ACCOUNTS}).")
    ] = None,
    regions: Annotated[
        str | None,
        typer.Option(
            metavar="default|all|LIST",
            help="Regions with resources: those enabled by default, all of them, or a list with commas. "
            "Opt-in Regions among them are enabled (default: `default`).",
        ),
    ] = None,
    instances: Annotated[
        int | None,
        typer.Option(min=0, max=100_000, help=f"Instances in a Region, on average (default: {INSTANCES})."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help=f"Another number makes another organization (default: {SEED}).")
    ] = None,
    throttle: Annotated[
        Throttling,
        typer.Option(help="Which EC2 calls to throttle, with AWS's buckets for each account, Region and API."),
    ] = Throttling.WRITES,
    no_throttle: Annotated[bool, typer.Option("--no-throttle", help="The same as `--throttle none`.")] = False,
    settle_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=3600.0, help="How long changes of state take; 0: done at the next request (default: 0)."
        ),
    ] = None,
    latency_ms: Annotated[
        float, typer.Option("--latency-ms", min=0.0, max=60_000.0, help="How late every answer is, in milliseconds.")
    ] = 0.0,
    faults: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules for calls that go wrong, in TOML or JSON: docs/local-aws.md, Faults."),
    ] = None,
    v1_percent: Annotated[
        int | None,
        typer.Option(min=0, max=100, help="How many of 100 instances with optional tokens use IMDSv1 (default: 55)."),
    ] = None,
) -> int:
    """Start a local AWS: an organization with its accounts, Regions and a fleet that nobody has looked after.

    Without --state everything is forgotten when it ends. With --state every accepted write is on disk before it is
    answered, and the next `up` with the same directory goes on from there.
    """
    asked: dict[str, Any] = {
        "accounts": accounts,
        "regions": None if regions is None else parse_regions(regions),
        "instances": instances,
        "seed": seed,
        "settle_seconds": settle_seconds,
        "v1_percent": v1_percent,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if no_throttle:
        throttle = Throttling.NONE
    rules = _rules(faults)
    if detach:
        arguments = [*_up_arguments(host, port, state, regions, asked), "--throttle", throttle]
        arguments += ["--latency-ms", str(latency_ms)] if latency_ms else []
        arguments += ["--faults", str(faults)] if faults is not None else []
        return _detach(arguments, state)
    return _serve_here(host, port, state, throttle, asked, latency_seconds=latency_ms / 1000, faults=rules)


@app.command()
def down(state: StateOption = None, port: PortOption = None) -> int:
    """End a local AWS that runs in the background."""
    found = running(state, port)
    if not found:
        typer.echo("no local AWS is running", err=True)
        return 0
    entry, _ = only(found)
    registry = registry_here()
    os.kill(entry.pid, signal.SIGTERM)
    # Its last act is to take its registration away, after its log is closed.
    deadline = time.monotonic() + END_SECONDS_MAX
    while any(each.token == entry.token for each in registry.entries()):
        if time.monotonic() > deadline:
            raise DiagnosticError(
                Diagnostic(
                    "local-does-not-end",
                    f"process {entry.pid} was asked to end and still runs after {END_SECONDS_MAX:.0f} s",
                    subject=entry.url,
                    hint=f"`kill -9 {entry.pid}` ends it at once; what it answered is on disk",
                )
            )
        time.sleep(POLL_SECONDS)
    if entry.log is not None:
        Path(entry.log).unlink(missing_ok=True)
    typer.echo(f"ended the local AWS at {entry.url}", err=True)
    return 0


@app.command()
def status(
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    state: StateOption = None,
    port: PortOption = None,
) -> int:
    """Show which local AWS runs. Exit code 1 when none does."""
    found = running(state, port)
    if json_:
        import json

        servers = [_described(entry, answer) for entry, answer in found]
        typer.echo(json.dumps({"format_version": FORMAT_VERSION, "running": bool(found), "servers": servers}))
    elif not found:
        typer.echo("no local AWS is running; `imdsctl local up --detach` starts one", err=True)
    for entry, answer in () if json_ else found:
        spec = entry.spec
        typer.echo(
            f"{entry.url}  pid {entry.pid}, {spec.accounts} accounts, {len(spec.regions)} Regions, seed {spec.seed}, "
            f"{answer.get('writes', 0)} writes, " + (f"state {entry.state}" if entry.state else "nothing is kept")
        )
    return 0 if found else 1


@app.command()
def env(
    state: StateOption = None,
    port: PortOption = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Account whose administrator to be; default: the management one.")
    ] = None,
    region: Annotated[str, typer.Option(help="Region to work in.")] = "us-east-1",
) -> int:
    """Print the settings that point every AWS tool here: `eval "$(imdsctl local env)"`."""
    if region not in COMMERCIAL_REGIONS:
        raise DiagnosticError(_unknown_region(region), exit_code=2)
    found = running(state, port)
    if not found:
        hint = "`imdsctl local up --detach` starts one"
        if state is not None:
            hint = f"`imdsctl local up --detach --state {shlex.quote(str(state))}` starts it"
        raise DiagnosticError(Diagnostic("local-not-running", "no local AWS is running", hint=hint))
    entry, _ = only(found)
    from imdsctl.local.organization_generator import make_organization

    organization, accounts = make_organization(entry.spec)
    chosen = accounts.get(account or organization.management_id)
    if chosen is None:
        raise DiagnosticError(
            Diagnostic(
                "account-unknown",
                f"the local AWS has no account `{account}`",
                subject=entry.url,
                hint="`aws organizations list-accounts` with the settings of `imdsctl local env` lists them",
            ),
            exit_code=2,
        )
    settings = {
        "AWS_ENDPOINT_URL": entry.url,
        "AWS_ACCESS_KEY_ID": chosen.access_key_id,
        "AWS_SECRET_ACCESS_KEY": chosen.secret_access_key,
        "AWS_REGION": region,
        # boto3 and the AWS CLI read only this one.
        "AWS_DEFAULT_REGION": region,
    }
    if os.environ.get("AWS_SESSION_TOKEN"):
        settings["AWS_SESSION_TOKEN"] = ""  # one left over from other credentials would be sent with these
    for name, value in settings.items():
        typer.echo(f"export {name}={shlex.quote(value) if value else ''}")
    return 0


app.command()(connect)
app.command()(notify)
app.command()(certificate)
app.command()(snapshot)
app.command()(restore)
app.command()(reset)


# -- up --------------------------------------------------------------------------------------------------------------


def parse_regions(text: str) -> tuple[str, ...]:
    """`default`, `all` or a list with commas, as Region names in alphabetical order.

    Raises DiagnosticError `region-unknown` (usage) for a name that AWS does not have.
    """
    if text == "default":
        return DEFAULT_REGIONS
    if text == "all":
        return COMMERCIAL_REGIONS
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in COMMERCIAL_REGIONS]
    if unknown or not names:
        raise DiagnosticError([_unknown_region(name) for name in unknown or [text]], exit_code=2)
    return tuple(sorted(set(names)))


def _unknown_region(name: str) -> Diagnostic:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMERCIAL_REGIONS, 1)
    return Diagnostic(
        "region-unknown",
        f"there is no commercial Region `{name}`",
        hint=f"did you mean `{near[0]}`?" if near else "`default`, `all`, or names such as `eu-west-1,us-east-1`",
    )


def _rules(file: Path | None) -> Faults | None:
    """The rules of a file; read before anything is started."""
    if file is None:
        return None
    from imdsctl.adapters.faults_file import read_faults

    return read_faults(file)


def _serve_here(
    host: str,
    port: int,
    path: Path | None,
    throttle: Throttling,
    asked: dict[str, Any],
    *,
    latency_seconds: float,
    faults: Faults | None,
) -> int:
    import gc

    # Loading makes hundreds of thousands of objects that all stay: looking for garbage among them, again and again, is
    # a sixth of the start. The server switches it on again.
    gc.disable()
    from imdsctl.adapters.local_server import Settings, serve
    from imdsctl.adapters.state_directory import StateDirectory

    state = None if path is None else StateDirectory(path.expanduser())
    try:
        spec = _spec(state, asked)
        log = os.environ.get(_LOG_VARIABLE)
        settings = Settings(host, port, registry_here(), log, throttle, latency_seconds, faults)
        serve(spec, state, settings, _announce)
    finally:
        if state is not None:
            state.close()
    return 0


def _spec(state: StateDirectory | None, asked: dict[str, Any]) -> WorldSpec:
    """The world to serve: the one the state directory keeps, or a new one of what was asked."""
    from imdsctl.local.spec import WorldSpec

    kept = None if state is None else state.manifest()
    if kept is None:
        new = WorldSpec(seed=SEED, created=datetime.now(UTC).replace(microsecond=0), accounts=ACCOUNTS)
        new = replace(new, **{"instances": INSTANCES, **asked})
        if state is not None:
            state.write_manifest(new)
        return new
    differs = [name for name, value in asked.items() if getattr(kept, name) != value]
    if differs:
        options = ", ".join(f"`--{name.replace('_', '-')}`" for name in differs)
        raise DiagnosticError(
            Diagnostic(
                "state-differs",
                f"this state was made with another {options}",
                hint="leave the option out to go on with this state, or choose an empty directory for `--state`",
            )
        )
    return kept


def _announce(entry: Entry, world: World) -> None:
    typer.echo(
        f"local AWS at {entry.url}: {len(world.accounts)} accounts, {len(entry.spec.regions)} Regions, "
        f"seed {entry.spec.seed}"
        + (f", kept in {entry.state}" if entry.state else "")
        + f'\nin another shell: eval "$(imdsctl local env --port {entry.port})"'
        + "\nCtrl-C ends it",
        err=True,
    )


# -- detach ----------------------------------------------------------------------------------------------------------

_LOG_VARIABLE = "IMDSCTL_LOCAL_LOG"


def _up_arguments(host: str, port: int, state: Path | None, regions: str | None, asked: dict[str, Any]) -> list[str]:
    arguments = ["local", "up", "--host", host, "--port", str(port)]
    if state is not None:
        arguments += ["--state", str(state)]
    for name, value in asked.items():
        arguments += [f"--{name.replace('_', '-')}", str(regions if name == "regions" else value)]
    return arguments


def _detach(arguments: Sequence[str], state: Path | None) -> int:
    """Start the server as a process of its own, and wait until it answers."""
    registry = registry_here()
    try:
        registry.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = registry.path / f"server-{os.getpid()}.log"
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise DiagnosticError(
            Diagnostic(
                "runtime-not-writable",
                f"the server cannot be registered: {error.strerror or error}",
                subject=str(registry.path),
                hint="set XDG_RUNTIME_DIR to a directory of yours",
            )
        ) from None
    try:
        server = subprocess.Popen(
            [sys.executable, "-m", "imdsctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, _LOG_VARIABLE: str(log)},
        )
    finally:
        os.close(output)
    try:
        entry = _wait_for(server, registry, log)
    except BaseException:  # Ctrl-C, too: nobody is told of this server, so it must not stay
        server.terminate()
        server.wait()
        raise
    if entry is None:
        said = log.read_text(errors="replace").rstrip()
        with contextlib.suppress(OSError):
            log.unlink()
        typer.echo(said or f"the server ended at once, with exit code {server.returncode}", err=True)
        return server.returncode or 1
    server.returncode = 0  # it is meant to outlive this process: no warning that it does
    spec = entry.spec
    typer.echo(
        f"local AWS at {entry.url} (pid {entry.pid}): {spec.accounts} accounts, {len(spec.regions)} Regions, "
        f"seed {spec.seed}" + (f", kept in {entry.state}" if entry.state else ""),
        err=True,
    )
    typer.echo('next: eval "$(imdsctl local env)"; `imdsctl local down` ends it', err=True)
    return 0


def _wait_for(server: subprocess.Popen[bytes], registry: Registry, log: Path) -> Entry | None:
    """The server's registration once it answers; None when it has ended instead."""
    from imdsctl.adapters.local_registry import ask

    deadline = time.monotonic() + START_SECONDS_MAX
    while server.poll() is None:
        for entry in registry.entries():
            if entry.pid == server.pid and ask(entry) is not None:
                return entry
        if time.monotonic() > deadline:
            raise DiagnosticError(
                Diagnostic(
                    "local-does-not-start",
                    f"the server did not answer within {START_SECONDS_MAX:.0f} s",
                    subject=str(log),
                    hint="start it without `--detach` to see what it does",
                )
            )
        time.sleep(POLL_SECONDS)
    return None


def _described(entry: Entry, answer: dict[str, Any]) -> dict[str, Any]:
    spec = entry.spec
    return {
        "url": entry.url,
        "host": entry.host,
        "port": entry.port,
        "pid": entry.pid,
        "state": entry.state,
        "seed": spec.seed,
        "created": spec.created.isoformat(),
        "accounts": spec.accounts,
        "regions": list(spec.regions),
        "instances": spec.instances,
        "settle_seconds": spec.settle_seconds,
        "v1_percent": spec.v1_percent,
        "writes": answer.get("writes", 0),
        "regions_touched": answer.get("regions_touched", 0),
    }
