"""Commands with fakes for what they need: exit codes, what goes to which stream, and what Ctrl-C says."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imdsctl.__main__ import main
from imdsctl.cli.app import COMMANDS, program, run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.cli.errors import wants_colour
from imdsctl.cli.scan import ScanOptions
from imdsctl.cli.scan import run as run_scan
from imdsctl.domain.observations import Scan
from imdsctl.domain.plan import PLAN_FORMAT_VERSION
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.selection import Selection
from imdsctl.wire.errors import ServiceError

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
ANSWERS: Mapping[str, Any] = {
    "GetCallerIdentity": {"Account": "111111111111", "Arn": "arn:aws:iam::111111111111:user/me"},
    "ListRegions": {"Regions": [{"RegionName": "eu-west-1", "RegionOptStatus": "ENABLED_BY_DEFAULT"}]},
    "DescribeRegions": {"Regions": [{"RegionName": "eu-west-1", "OptInStatus": "opt-in-not-required"}]},
    "GetInstanceMetadataDefaults": {"AccountLevel": {"HttpTokensEnforced": "enabled"}},
}
"""One account with one Region that enforces, and nothing in it."""


class OneAccount:
    default_region = "eu-west-1"

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = {**ANSWERS, **answers}

    async def call(self, credentials: Any, service: str, region: str, operation: str, *rest: Any) -> Any:
        answer = self.answers.get(operation, {})
        if isinstance(answer, BaseException):
            raise answer
        return await answer() if callable(answer) else answer

    async def paginate(self, *args: Any) -> AsyncIterator[Any]:
        yield await self.call(*args)


class Memory(MemoryStore):
    @property
    def scans(self) -> list[Scan]:
        return list(self._scans.values())


class World:
    """Runs command lines against one account."""

    def __init__(self, **answers: Any) -> None:
        self.store = Memory()
        self.answers = answers

    def run(self, *argv: str) -> int:
        return run(argv, self.dependencies())

    def dependencies(self) -> Dependencies:
        @asynccontextmanager
        async def aws(profile: str | None) -> AsyncIterator[Any]:
            yield OneAccount(self.answers)

        return Dependencies(aws=aws, scans=lambda url: self.store, now=lambda: NOON, new_id=lambda: "s1")  # type: ignore[arg-type]


SCAN = ("scan", "--current-account")
DENIED = ServiceError("UnauthorizedOperation", "You are not authorized", 403)


def test_a_scan_is_printed_kept_and_ends_with_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    assert world.run(*SCAN) == 0
    said = capsys.readouterr()
    assert "eu-west-1  enforced" in said.out
    assert said.err == ""
    assert said.out.rstrip().splitlines()[-1].startswith("Nothing that was seen allows IMDSv1. Next: `imdsctl verify`")
    assert [each.scan_id for each in world.store.scans] == ["s1"]


def test_json_is_one_object_with_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert World(GetInstanceMetadataDefaults=DENIED).run(*SCAN, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format_version"] == 1
    assert document["imdsctl_version"]
    assert document["totals"]["region_defaults"] == {"exposed": 0, "enforced": 0, "unknown": 1}
    assert document["unknown"] == [
        {
            "subject": "111111111111/eu-west-1",
            "what": "defaults",
            "code": "UnauthorizedOperation",
            "reason": "You are not authorized",
        }
    ]


NOT_ENABLED: Mapping[str, Any] = {
    "ListRegions": {"Regions": [{"RegionName": "ap-east-1", "RegionOptStatus": "DISABLED"}]},
    "DescribeRegions": {"Regions": [{"RegionName": "ap-east-1", "OptInStatus": "not-opted-in"}]},
}


def test_where_no_region_is_enabled_nothing_is_seen_and_nothing_is_proven(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(**NOT_ENABLED)
    world.run(*SCAN)
    assert "nothing was seen, and nothing is proven" in capsys.readouterr().out
    assert world.run("plan") == 0
    assert "the scan saw no enabled Region" in capsys.readouterr().out
    assert world.run("verify", "--current-account") == 1
    assert "Not verified: 0 targets" in capsys.readouterr().out


def test_every_command_has_the_same_member_for_the_version_of_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/guide.md promises `format_version` of every `--json`."""
    # The first change is refused and holds back the second, so that nobody waits for one to be applied.
    world = World(GetInstanceMetadataDefaults={"AccountLevel": {}}, ModifyInstanceMetadataDefaults=DENIED)
    plan = str(tmp_path / "plan.json")
    for argv in (
        (*SCAN, "--json"),
        ("explain", "--launch", "--json"),
        ("plan", "-o", plan, "--json"),
        ("apply", plan, "--confirm", "2", "--json"),
        ("verify", "--current-account", "--json"),
    ):
        world.run(*argv)
        out = capsys.readouterr().out
        documents = [json.loads(line) for line in out.splitlines()] if argv[0] == "apply" else [json.loads(out)]
        assert documents, argv
        version = PLAN_FORMAT_VERSION if argv[0] == "plan" else 1
        assert [each["format_version"] for each in documents] == [version] * len(documents), argv


@pytest.mark.parametrize(
    ("answers", "fail_on", "exit_code"),
    [
        ({}, ("unknown", "exposed"), 0),
        ({"GetInstanceMetadataDefaults": {}}, ("unknown",), 0),
        ({"GetInstanceMetadataDefaults": {}}, ("exposed",), 1),
        ({"GetInstanceMetadataDefaults": {}}, ("unknown", "exposed"), 1),
        ({"DescribeInstances": DENIED}, (), 0),
        ({"DescribeInstances": DENIED}, ("exposed",), 0),
        ({"DescribeInstances": DENIED}, ("unknown",), 1),
        ({"DescribeImages": DENIED}, ("unknown",), 1),
    ],
)
def test_fail_on_decides_the_exit_code(answers: dict[str, Any], fail_on: tuple[str, ...], exit_code: int) -> None:
    flags = [flag for each in fail_on for flag in ("--fail-on", each)]
    assert World(**answers).run(*SCAN, *flags) == exit_code


def test_the_unknown_is_listed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    World(DescribeInstances=DENIED).run(*SCAN)
    out = capsys.readouterr().out
    assert "Unknown (1)" in out
    assert "111111111111/eu-west-1: instances (UnauthorizedOperation): You are not authorized" in out


def test_ctrl_c_says_that_nothing_was_changed_and_keeps_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    world = World(DescribeInstances=interrupted)
    assert world.run(*SCAN) == 130
    assert "nothing was changed" in capsys.readouterr().err
    assert world.store.scans == []


def test_ctrl_c_outside_of_a_commands_work_is_said_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.store.latest = _ctrl_c  # type: ignore[method-assign]
    assert world.run("plan") == 130
    assert "error[interrupted]: stopped by Ctrl-C; nothing is left half done" in capsys.readouterr().err


def test_ctrl_c_while_the_command_line_is_read_is_said_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("typer.core.TyperGroup.parse_args", _ctrl_c)
    assert World().run("plan") == 130
    assert "error[interrupted]: stopped by Ctrl-C; nothing was begun" in capsys.readouterr().err


def test_ctrl_c_while_the_program_is_loaded_is_said_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        find_spec = staticmethod(_ctrl_c)

    monkeypatch.delitem(sys.modules, "imdsctl.bootstrap", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert main() == 130
    assert "error[interrupted]: stopped by Ctrl-C; nothing was begun" in capsys.readouterr().err


def _ctrl_c(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_a_second_ctrl_c_during_apply_names_the_command_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(GetInstanceMetadataDefaults={}, ModifyInstanceMetadataDefaults=_ctrl_c)
    plan, journal = str(tmp_path / "plan.json"), str(tmp_path / "memory")
    world.run(*SCAN)
    assert world.run("plan", "-o", plan) == 0
    options = ("--confirm", "2", "--journal", journal, "--role", "Auditor", "--profile", "me", "--keep-going")
    assert world.run("apply", plan, *options) == 130
    said = capsys.readouterr().err
    assert "error[interrupted]" in said
    assert f"`imdsctl apply {plan} {' '.join(options)}` reads them back and goes on" in said
    assert '"entry":"began"' in Path(journal).read_text()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    World().run("--help")
    listed = capsys.readouterr().out.partition("Commands")[2]
    assert [name for name in COMMANDS if f" {name} " not in listed] == []


@pytest.mark.parametrize(
    "argv",
    [
        ("scan", "--accounts", ","),
        ("scan", "--fail-on", "everything"),
        ("scan", "--nosuch"),
        ("nosuch",),
        ("explain",),
        ("explain", "--launch", "i-0123456789abcdef0"),
        ("explain", "web", "--http-tokens", "required"),
        ("explain", "--launch", "--http-tokens", "require"),
        ("explain", "--launch", "--hop-limit", "65"),
    ],
)
def test_a_wrong_command_line_gives_2_and_says_why_on_standard_error(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert World().run(*argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "rror" in said.err


def test_explain_shows_the_layers_and_that_enforcement_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert World().run("explain", "--launch", "--http-tokens", "optional") == 0
    out = capsys.readouterr().out
    assert "[optional]" in out
    assert "REFUSED with UnsupportedOperation" in out


def test_explain_as_json_names_the_layer_of_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert World().run("explain", "--launch", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["format_version"], document["refused"]) == (1, True)
    assert {each["decided_by"] for each in document["options"].values()} == {"built-in"}


def test_explain_from_a_scan_needs_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert World().run("explain", "i-0123456789abcdef0", "--from-scan") == 1
    assert "error[scan-missing]" in capsys.readouterr().err


def test_a_bug_is_a_traceback_not_a_diagnostic() -> None:
    with pytest.raises(BaseExceptionGroup):
        World(DescribeInstances=ZeroDivisionError()).run(*SCAN)


def test_no_colour_leaves_a_file_or_a_terminal_that_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(object())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


def test_every_command_that_is_listed_can_be_loaded() -> None:
    commands = program()
    assert commands.list_commands(None) == list(COMMANDS)
    assert all(commands.get_command(None, name) is not None for name in COMMANDS)


# Scans that are stopped, and gone on with.


def test_a_scan_that_its_time_limit_stops_says_how_to_go_on_and_going_on_finishes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    world = World(GetInstanceMetadataDefaults=never)
    asked = ScanOptions(Selection(current_account=True), json=True, time_limit=timedelta(0))
    assert run_scan(asked, world.dependencies()) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["complete"], document["targets"]) == (False, [])
    assert {each["code"] for each in document["unknown"]} == {"NotReached"}
    assert "warning[scan-unfinished]" in printed.err
    assert "imdsctl scan --resume s1" in printed.err
    assert world.store.scans == []

    world.answers = {}
    assert world.run("scan", "--resume") == 0
    assert [(each.scan_id, len(each.regions)) for each in world.store.scans] == [("s1", 1)]
    assert world.run("scan", "--resume") == 2


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("scan", "s1"), "usage"),
        (("scan", "--resume", "--regions", "eu-west-1"), "option-conflict"),
        (("scan", "--resume", "nosuch"), "scan-unknown"),
        (("scan", "--time-limit", "soon"), "duration-invalid"),
        (("scan", "--accounts-file", "/nonexistent"), "accounts-file-unreadable"),
    ],
)
def test_a_command_line_of_scan_that_makes_no_sense(
    argv: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert World().run(*argv) == 2
    assert f"error[{code}]" in capsys.readouterr().err
