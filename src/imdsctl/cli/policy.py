"""`imdsctl policy`: guardrails, proven before they are attached."""

from __future__ import annotations

import typer

from imdsctl.cli import policy_check, policy_generate, policy_replay, policy_simulate

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Generate guardrails, and prove them first.")


@app.callback()
def _group() -> None:
    """Generate guardrails, and prove them before they are attached."""


app.command("generate")(policy_generate.command)
app.command("check")(policy_check.command)
app.command("simulate")(policy_simulate.command)
app.command("replay")(policy_replay.command)
