"""`imdsctl imds`: an instance metadata service that stands alone, without a local AWS."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.cli.imds_options import (
    ConfigOption,
    HopLimitOption,
    HttpEndpointOption,
    HttpTokensOption,
    MetadataTagsOption,
    RoleOption,
)
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.imds.facts import EVENT_CODES
from imdsctl.imds.mock import LIFECYCLE_STATES, SPOT_ACTIONS, Mock, Notice

if TYPE_CHECKING:
    from imdsctl.imds.messages import Reply, Request

BIND = "127.0.0.1:1338"
FORMAT_VERSION = 1

app = typer.Typer(help="An instance metadata service of its own, to test programs against.", no_args_is_help=True)


@app.command()
def serve(
    bind: Annotated[
        list[str] | None,
        typer.Option(
            "--bind", metavar="HOST:PORT", help=f"Where to listen; IPv6 in brackets. Again for more. [{BIND}]"
        ),
    ] = None,
    http_tokens: HttpTokensOption = None,
    hop_limit: HopLimitOption = None,
    http_endpoint: HttpEndpointOption = None,
    metadata_tags: MetadataTagsOption = False,
    role: RoleOption = None,
    config: ConfigOption = None,
    spot: Annotated[
        str | None, typer.Option("--spot", metavar="ACTION", help=f"A Spot interruption: {', '.join(SPOT_ACTIONS)}.")
    ] = None,
    rebalance: Annotated[bool, typer.Option("--rebalance", help="A rebalance recommendation.")] = False,
    event: Annotated[
        str | None, typer.Option("--event", metavar="CODE", help=f"A scheduled event: {', '.join(EVENT_CODES)}.")
    ] = None,
    target_lifecycle_state: Annotated[
        str | None,
        typer.Option("--target-lifecycle-state", metavar="STATE", help="Where its Auto Scaling group takes it."),
    ] = None,
    after: Annotated[
        float, typer.Option("--after", metavar="SECONDS", min=0, help="When these four show, from the start on.")
    ] = 0.0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for every request, on standard error.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object for every request, on standard output.")
    ] = False,
) -> int:
    """Serve the metadata of an instance that does not exist, by the rules of IMDSv1 and IMDSv2.

    Point a program at it with AWS_EC2_METADATA_SERVICE_ENDPOINT; `imdsctl run` does it for programs that know only
    169.254.169.254. Its credentials are made up: no AWS takes them.
    """
    from imdsctl.adapters.mock_service import parse_bind, read_mock_file
    from imdsctl.adapters.mock_service import serve as run
    from imdsctl.imds.mock_choice import make_mock
    from imdsctl.imds.mock_file import MockFile

    binds = [parse_bind(text) for text in bind or [BIND]]
    file = MockFile() if config is None else read_mock_file(config)
    notices = _notices(spot, rebalance, event, target_lifecycle_state, after)
    asked = MetadataOptions(http_tokens, hop_limit, http_endpoint, None, Switch.ENABLED if metadata_tags else None)
    mock = make_mock(file, asked, role, notices, now=datetime.now(UTC))
    run(mock, binds, lambda addresses: _announce(mock, addresses), _log(verbose, as_json))
    return 0


@app.command()
def certificate() -> int:
    """Print the certificates against which the identity documents of `imds serve` and `run` verify, as PEM.

    The first is for `signature` and `rsa2048` (RSA), the second for `pkcs7` (DSA).
    """
    from imdsctl.adapters.data_directory import data_directory
    from imdsctl.adapters.identity_keys import kept_signer

    sys.stdout.write(kept_signer(data_directory()).certificates_pem())
    return 0


def _notices(spot: str | None, rebalance: bool, event: str | None, lifecycle: str | None, after: float) -> list[Notice]:
    notices = []
    for option, value, allowed, kind in (
        ("--spot", spot, SPOT_ACTIONS, "spot"),
        ("--event", event, tuple(EVENT_CODES), "event"),
        ("--target-lifecycle-state", lifecycle, LIFECYCLE_STATES, "lifecycle"),
    ):
        if value is None:
            continue
        if value not in allowed:
            raise DiagnosticError(
                Diagnostic("usage", f"`{option}` does not take `{value}`", hint=f"one of {', '.join(allowed)}"),
                exit_code=2,
            )
        notices.append(Notice(kind, value, after))
    if rebalance:
        notices.append(Notice("rebalance", None, after))
    return notices


def _announce(mock: Mock, addresses: Sequence[tuple[str, int]]) -> None:
    from imdsctl.adapters.mock_service import shown_address

    options = mock.options
    urls = [f"http://{shown_address(address)}" for address in addresses]
    what = "IMDSv2 only" if options.http_tokens is HttpTokens.REQUIRED else "IMDSv1 and IMDSv2"
    if options.http_endpoint is Switch.DISABLED:
        what = "endpoint disabled"
    typer.echo(
        f"instance metadata of {mock.instance.instance_id} at {', '.join(urls)}: {what}, "
        f"hop limit {options.http_put_response_hop_limit}, "
        + (f"role {mock.instance.role}" if mock.instance.role else "no role")
        + f"\nin another shell: export AWS_EC2_METADATA_SERVICE_ENDPOINT={urls[0]}"
        + "\nCtrl-C ends it",
        err=True,
    )


def _log(verbose: bool, as_json: bool) -> Any:
    def log(client: tuple[str, int], request: Request | None, reply: Reply) -> None:
        method = "-" if request is None else request.method
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if verbose:
            path = reply.path.encode("unicode_escape").decode()
            typer.echo(f"{moment} {client[0]} {method} {path or '-'} {reply.status} {reply.access}", err=True)
        if as_json:
            line = {
                "format_version": FORMAT_VERSION,
                "time": moment,
                "client": client[0],
                "port": client[1],
                "method": method,
                "path": reply.path,
                "status": reply.status,
                "access": str(reply.access),
            }
            print(json.dumps(line), flush=True)

    return log if verbose or as_json else None
