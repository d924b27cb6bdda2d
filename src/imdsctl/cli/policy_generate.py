"""`imdsctl policy generate`: SCPs, EC2 policies, IAM policies and boundaries, each statement with its reason."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli.errors import EXIT_DONE
from imdsctl.codify.guardrails import USUAL, Rule, Settings, Unset, guardrails
from imdsctl.codify.packing import Document, Form, packed
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.policy.limits import SCP_CHARACTERS_MAX

if TYPE_CHECKING:
    from imdsctl.domain.intent import Intent

NAME = "imdsv2"


class Kind(StrEnum):
    """What is generated."""

    SCP = "scp"
    DECLARATIVE = "declarative"
    IAM = "iam"
    BOUNDARY = "boundary"


def command(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="`scp`: for AWS Organizations; `declarative`: an EC2 policy for the intent; `iam`: to attach to roles;"
            " `boundary`: a permissions boundary."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Write each document, and its reasons, into this folder."
        ),
    ] = None,
    rule: Annotated[
        list[Rule] | None,
        typer.Option("--rule", help=f"Which guardrails; repeat it (default: {', '.join(USUAL)})."),
    ] = None,
    unset: Annotated[
        Unset, typer.Option("--unset", help="What becomes of a launch that does not say HttpTokens.")
    ] = Unset.DENY,
    hop_limit: Annotated[int, typer.Option("--hop-limit", min=1, max=64, help="The highest hop limit allowed.")] = 2,
    exempt_role: Annotated[
        list[str] | None,
        typer.Option("--exempt-role", metavar="ARN", help="To whom nothing of it applies; `*` for parts; repeat it."),
    ] = None,
    exempt_tag: Annotated[
        str | None,
        typer.Option(
            "--exempt-tag", metavar="KEY=VALUE", help="Instances with this tag are exempt; it is guarded too."
        ),
    ] = None,
    intent: Annotated[
        Path | None, typer.Option("--intent", metavar="FILE", help="For `declarative`: what is wanted, in TOML.")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", help="For `declarative`: what an account reads when it is refused.")
    ] = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="For `declarative`: no policy further down can set it differently.")
    ] = False,
    partition: Annotated[str, typer.Option("--partition", help="`aws`, `aws-cn` or `aws-us-gov`.")] = "aws",
) -> int:
    """Generate guardrails that deny what would bring IMDSv1 back, within AWS's size limits. Asks AWS nothing.

    The documents go to standard output, reason and source of each statement to standard error; or both into a folder.
    """
    if kind is Kind.DECLARATIVE:
        return _declarative(intent, message, lock, output)
    settings = _settings(rule, unset, hop_limit, exempt_role, exempt_tag, partition)
    documents = packed(Form(str(kind)), guardrails(settings), NAME)
    _write(documents, output)
    return EXIT_DONE


def _settings(
    rule: Sequence[Rule] | None,
    unset: Unset,
    hop_limit: int,
    exempt_role: Sequence[str] | None,
    exempt_tag: str | None,
    partition: str,
) -> Settings:
    """Raises DiagnosticError `option-invalid` (exit code 2)."""
    from imdsctl.codify.statement_principals import ROLE_OR_USER, role_meant

    for arn in exempt_role or ():
        if not ROLE_OR_USER.fullmatch(arn):
            hint = f"write `{role_meant(arn) or 'arn:aws:iam::*:role/imdsctl'}`"
            raise _wrong(f"`{arn}` is not the ARN of a role or user", hint)
    tag = None
    if exempt_tag is not None:
        key, equals, value = exempt_tag.partition("=")
        if not key or not equals:
            raise _wrong(f"`{exempt_tag}` is not KEY=VALUE", "write `--exempt-tag imdsv1-exempt=true`")
        if not exempt_role:
            raise _wrong(
                "a tag that exempts has to be guarded, and nobody is allowed to set it",
                "name those who may with `--exempt-role ARN`",
            )
        tag = key, value
    return Settings(tuple(rule or USUAL), unset, hop_limit, tuple(exempt_role or ()), tag, partition)


def _wrong(summary: str, hint: str) -> DiagnosticError:
    return DiagnosticError(Diagnostic("option-invalid", summary, hint=hint), exit_code=2)


def _write(documents: Sequence[Document], folder: Path | None) -> None:
    from imdsctl.adapters.private_file import write_private
    from imdsctl.views.guardrails import reasons_markdown, reasons_text

    for document in documents:
        too_long = document.form is Form.SCP and len(document.text) > SCP_CHARACTERS_MAX
        text = document.minified + "\n" if too_long else document.text
        if folder is None:
            sys.stdout.write(text)
            print(reasons_text(document), file=sys.stderr)
            continue
        _made(folder)
        write_private(folder / f"{document.name}.{document.form}.json", [text])
        write_private(folder / f"{document.name}.{document.form}.md", [reasons_markdown(document)])
        print(folder / f"{document.name}.{document.form}.json")


def _declarative(intent: Path | None, message: str | None, lock: bool, folder: Path | None) -> int:
    from imdsctl.adapters.private_file import write_private
    from imdsctl.codify.declarative import declarative_policy, declarative_text

    text = declarative_text(declarative_policy(_intent(intent), message=message, lock=lock))
    if folder is None:
        sys.stdout.write(text)
    else:
        _made(folder)
        write_private(folder / f"{NAME}.declarative.json", [text])
        print(folder / f"{NAME}.declarative.json")
    print(
        "  An EC2 policy binds every account and Region below it, service-linked roles and the management account.\n"
        "  While it is attached nobody can change these settings in an account; detaching it brings the old ones back.",
        file=sys.stderr,
    )
    return EXIT_DONE


def _intent(path: Path | None) -> Intent:
    from imdsctl.domain.intent import Intent

    if path is None:
        return Intent()
    from imdsctl.adapters.intent_file import read_intent

    return read_intent(path)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("file-unwritable", why, str(folder), "name a folder"), exit_code=2) from None
