"""`imdsctl export terraform`: Region defaults and policies as Terraform configuration, imported where that can be."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.export_scan import checked, choice, folder, planned, say_left_out, seen_scan
from imdsctl.fleet.selection import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.codify.export_gaps import LeftOut


PROVIDERS_MANY = 40
"""So many processes of the provider need 4 GiB and more."""


class As(StrEnum):
    """Which values are written."""

    SEEN = "seen"
    WANTED = "wanted"


def command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the configuration.")],
    which: Annotated[
        As, typer.Option("--as", help="`seen`: the values of the scan; `wanted`: those that the intent makes of them.")
    ] = As.SEEN,
    provider: Annotated[int, typer.Option("--provider", min=5, max=6, help="The AWS provider's major version.")] = 5,
    role: Annotated[
        str, typer.Option("--role", metavar="NAME", envvar="IMDSCTL_ROLE", help="The role that Terraform assumes.")
    ] = ROLE_NAME,
    own_account: Annotated[
        str | None,
        typer.Option("--own-account", metavar="ID", help="The account of Terraform's credentials: no role there."),
    ] = None,
    policies: Annotated[
        bool, typer.Option("--policies/--no-policies", help="SCPs and EC2 policies, with what they are attached to.")
    ] = True,
    each_account: Annotated[
        bool,
        typer.Option(
            "--by-account",
            help="A folder for each account, and `organization` for the policies, each to be run by itself.",
        ),
    ] = False,
    intent: options.IntentFile = None,
    scan: Annotated[str | None, typer.Option("--scan", metavar="ID", help="Default: the latest scan.")] = None,
    accounts: options.Accounts = None,
    regions: options.Regions = None,
    db: options.Database = None,
) -> int:
    """Write a scanned fleet's Region defaults and policies as Terraform configuration. Asks AWS nothing.

    Exit codes: 0 written, 1 written, but the scan could not read all of it, 2 wrong command line or no scan.
    """
    from imdsctl.adapters.private_file import write_private
    from imdsctl.codify.terraform import Settings, by_account, configuration

    checked([role], "the name of a role", r"[\w+=,.@/-]{1,512}", "imdsctl")
    checked([own_account] if own_account else [], "an account", r"\d{12}", "111122223333")
    deps = dependencies.of(context)
    seen, chosen = seen_scan(deps, db, scan), choice(accounts, regions)
    plan = planned(deps, seen, intent, db) if which is As.WANTED else None
    settings = Settings(role, provider, own_account, policies)
    if each_account:
        parts = by_account(seen, settings, plan=plan, chosen=chosen)
    else:
        parts = iter([("", configuration(seen, settings, plan=plan, chosen=chosen))])
    left_out: list[LeftOut] = []
    defaults = 0
    for part, made in parts:
        for name, pieces in made.files.items():
            write_private(folder(output / part) / name, pieces)
            print(output / part / name)
        left_out += made.left_out
        defaults += made.defaults
    code = say_left_out(left_out)
    print(
        f"{defaults} Region default{'' if defaults == 1 else 's'} of scan {seen.scan_id}. The provider cannot"
        " import them and has no argument for HttpTokensEnforced: the first plan creates each of them"
        + (", and applying it changes nothing in AWS." if plan is None else "."),
        file=sys.stderr,
    )
    if not each_account and provider == 5 and defaults > PROVIDERS_MANY:
        print(
            f"Terraform will run {defaults} processes of the provider at once, one for each, about 100 MiB each:"
            " `--by-account` writes what can be run account by account.",
            file=sys.stderr,
        )
    return code
