"""`imdsctl local connect`: the metadata service of an instance of the local AWS, for programs on this machine."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.cli.local_servers import PortOption, StateOption, only, running
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.adapters.local_metadata import LocalInstance
    from imdsctl.adapters.local_registry import Entry

FORMAT_VERSION = 1

InstanceArgument = Annotated[str, typer.Argument(metavar="INSTANCE", help="Id of the instance.", show_default=False)]
AccountOption = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="Account of the instance, if it is not found.", show_default=False),
]
RegionOption = Annotated[
    str | None, typer.Option("--region", help="Region of the instance, if it is not found.", show_default=False)
]


def connect(
    instance: InstanceArgument,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    listen: Annotated[
        int, typer.Option("--listen", min=0, max=65535, metavar="PORT", help="Port to listen on; 0: any free one.")
    ] = 0,
    account: AccountOption = None,
    region: RegionOption = None,
    state: StateOption = None,
    port: PortOption = None,
) -> int:
    """Let programs reach an instance's metadata service: `eval "$(imdsctl local connect INSTANCE)"`.

    Its options are those that the local AWS holds at each request. It can be reached until the local AWS ends, and
    whenever the instance runs.
    """
    from imdsctl.adapters import local_metadata

    entry, found = found_instance(instance, account, region, state, port)
    endpoint = local_metadata.connect(entry, found, port=listen)
    if json_:
        import json

        typer.echo(json.dumps(_described(entry, found, endpoint)))
        return 0
    options = found.options
    typer.echo(
        f"{found.instance_id} ({found.account_id}, {found.region}, {found.state}): {endpoint}, HttpTokens "
        f"{options.http_tokens}, hop limit {options.http_put_response_hop_limit}, HttpEndpoint {options.http_endpoint}"
        + (f", role {found.role}" if found.role else ", no role"),
        err=True,
    )
    for name, value in _settings(entry, found, endpoint).items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    # An SDK asks the metadata service only when it finds no credentials elsewhere.
    typer.echo("unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_EC2_METADATA_DISABLED")
    return 0


def certificate(state: StateOption = None, port: PortOption = None) -> int:
    """Print the certificates (PEM) against which the signatures of instance identity documents verify.

    The first is for `signature` and `rsa2048`, the second for `pkcs7`. The local AWS gives itself new ones; with
    --state it keeps them.
    """
    from imdsctl.adapters import local_metadata

    typer.echo(local_metadata.certificate(_server(state, port)), nl=False)
    return 0


def _server(state: Path | None, port: int | None) -> Entry:
    servers = running(state, port)
    if not servers:
        raise DiagnosticError(
            Diagnostic("local-not-running", "no local AWS is running", hint="`imdsctl local up --detach` starts one")
        )
    return only(servers)[0]


def found_instance(
    instance: str, account: str | None, region: str | None, state: Path | None, port: int | None
) -> tuple[Entry, LocalInstance]:
    """The instance that a command names, and the local AWS that has it.

    Raises DiagnosticError: `local-not-running`, `local-ambiguous`, `instance-unknown`.
    """
    from imdsctl.adapters import local_metadata

    entry = _server(state, port)
    return entry, local_metadata.describe(entry, instance, account_id=account, region=region, environ=os.environ)


def _settings(entry: Entry, found: LocalInstance, endpoint: str) -> dict[str, str]:
    return {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint,
        "AWS_ENDPOINT_URL": entry.url,
        "AWS_REGION": found.region,
        "AWS_DEFAULT_REGION": found.region,
    }


def _described(entry: Entry, found: LocalInstance, endpoint: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "endpoint": endpoint,
        "instance": found.instance_id,
        "account": found.account_id,
        "region": found.region,
        "state": found.state,
        "options": found.options.to_aws(),
        "role": found.role,
        "environment": _settings(entry, found, endpoint),
    }
