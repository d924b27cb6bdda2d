"""`plan`, `init` and `intent` from the command line, against a scan that is kept in memory."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.domain.plan_cases import evidence_of, scan_of

from imdsctl.adapters.journal_file import open_journal
from imdsctl.adapters.plan_file import read_plan
from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.journal import RunBegan
from imdsctl.fleet.memory_store import MemoryStore

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
REGION: dict[str, Any] = {
    "ou": "Root/Sandbox",
    "defaults": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpTokensEnforced": "enabled"},
    "instances": [{"id": "i-00000001"}, {"id": "i-00000002", "tags": {"app": "billing"}}],
}
EXCEPTION = """
version = 1
[[exception]]
match.tag = "app=billing"
owner = "billing@example.com"
reason = "its agent knows only IMDSv1"
expires = 2026-11-02
"""


class World:
    """A store with one scan, and a folder to be in."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = MemoryStore()
        self.store.save(scan_of(REGION))
        self.capsys = capsys

    def run(self, *argv: str) -> tuple[int, str, str]:
        deps = Dependencies(aws=None, scans=lambda url: self.store, now=lambda: NOON, new_id=lambda: "s2")  # type: ignore[arg-type]
        code = run(argv, deps)
        said = self.capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> World:
    monkeypatch.chdir(tmp_path)
    return World(capsys)


def test_without_a_file_the_built_in_intent_is_used_and_said(world: World) -> None:
    code, out, _ = world.run("plan")
    assert code == 0
    assert out.startswith("Intent: built in (no --intent, and no imdsctl.toml here)\n")
    assert "2 to change" in out


def test_the_intent_in_the_current_folder_is_read_and_said(world: World) -> None:
    Path("imdsctl.toml").write_text("version = 1\n[instances]\nhttp-tokens = 'leave'")
    _, out, _ = world.run("plan")
    assert out.startswith("Intent: imdsctl.toml\n")
    assert "nothing to change" in out


def test_another_file_wins_over_it(world: World) -> None:
    Path("imdsctl.toml").write_text("this is not TOML")
    Path("other.toml").write_text("version = 1")
    assert world.run("plan", "--intent", "other.toml")[1].startswith("Intent: other.toml\n")
    code, _, err = world.run("plan")
    assert (code, "imdsctl.toml:1" in err) == (2, True)


def test_a_plan_goes_to_its_file_and_to_a_page_and_json_is_the_same_plan(world: World) -> None:
    assert world.run("plan", "--out", "plan.json", "--html", "plan.html")[0] == 0
    plan = read_plan(Path("plan.json"))
    assert [change.resource for change in plan.ready] == ["i-00000001", "i-00000002"]
    assert "i-00000001" in Path("plan.html").read_text()
    _, out, _ = world.run("plan", "--json")
    assert json.loads(out)["digest"] == plan.digest


def applied(name: str) -> None:
    """The plan has a journal, as if somebody had begun to apply it."""

    async def begun() -> None:
        with open_journal(Path(f"{name}.journal"), read_plan(Path(name)).digest, NOON.isoformat()) as journal:
            await journal.append(RunBegan("apply", "me", "here", None, NOON.isoformat()))

    asyncio.run(begun())


def test_a_plan_whose_apply_never_began_is_written_over(world: World) -> None:
    assert world.run("plan", "-o", "plan.json")[0] == 0
    with open_journal(Path("plan.json.journal"), read_plan(Path("plan.json")).digest, NOON.isoformat()):
        pass  # no credentials, or somebody else is at work
    assert world.run("plan", "-o", "plan.json")[0] == 0
    applied("plan.json")
    assert world.run("plan", "-o", "plan.json")[0] == 2


def test_a_plan_that_was_applied_is_not_written_over_for_its_journal_is_the_way_back(world: World) -> None:
    assert world.run("plan", "-o", "plan.json")[0] == 0
    first = Path("plan.json").read_bytes()
    applied("plan.json")
    code, _, err = world.run("plan", "-o", "plan.json")
    assert (code, "error[plan-applied]" in err, "write to another file" in err) == (2, True, True)
    assert Path("plan.json").read_bytes() == first
    assert world.run("plan", "-o", "plan-2.json")[0] == 0


def contents() -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in Path().iterdir()}


@pytest.mark.parametrize("words", [("plan", "-o"), ("plan", "--html"), ("report", "-o"), ("init", "--force", "-o")])
@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("plan.json", "plan-applied"),
        ("../HERE/plan.json", "plan-applied"),
        ("plan.json.journal", "file-kept"),
        ("moved", "file-kept"),
        ("scans.sqlite3", "file-kept"),
    ],
)
def test_no_command_writes_over_the_way_back(world: World, words: tuple[str, ...], place: str, code: str) -> None:
    assert world.run("plan", "-o", "plan.json")[0] == 0
    applied("plan.json")
    Path("moved").write_bytes(Path("plan.json.journal").read_bytes())
    with closing(sqlite3.connect("scans.sqlite3")) as database:
        database.execute("create table scan (id)")
    before = contents()
    exit_code, _, err = world.run(*words, place.replace("HERE", Path().resolve().name))
    assert (exit_code, f"error[{code}]" in err, "write to another file" in err) == (2, True, True)
    assert contents() == before


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "-o", "imdsctl.toml"),
        ("plan", "--html", "imdsctl.toml"),
        ("plan", "--intent", "i.toml", "-o", "link"),
        ("report", "--intent", "i.toml", "-o", "i.toml"),
        ("export", "cloudformation", "--intent", "i.toml", "-o", "i.toml"),
        ("export", "cli", "plan.json", "-o", "plan.json"),
    ],
)
def test_no_command_writes_over_what_it_reads(world: World, words: tuple[str, ...]) -> None:
    for name in ("imdsctl.toml", "i.toml"):
        Path(name).write_text("version = 1\n")
    Path("link").symlink_to("i.toml")
    assert world.run("plan", "-o", "plan.json")[0] == 0
    before = contents()
    world.store = None  # type: ignore[assignment]  # said before it is asked
    code, _, err = world.run(*words)
    assert (code, "error[file-kept]" in err, "this very command reads it" in err) == (2, True, True)
    assert contents() == before


@pytest.mark.parametrize("page", ["x.json", "./x.json", "x.json.journal"])
def test_a_plan_and_its_page_need_a_file_each(world: World, page: str) -> None:
    code, _, err = world.run("plan", "-o", "x.json", "--html", page)
    assert (code, "error[option-conflict]" in err, "`--html x.html`" in err) == (2, True, True)
    assert contents() == {}


def test_a_file_that_is_no_journal_is_not_taken_for_a_torn_one(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<html>")
    with pytest.raises(DiagnosticError, match="journal-damaged"), open_journal(file, "digest", ""):
        pass
    assert file.read_text() == "<html>"


def test_what_has_expired_or_matches_nothing_is_said_before_it_is_missed(world: World) -> None:
    Path("imdsctl.toml").write_text(EXCEPTION + '[[scope]]\nmatch = { ou = "Sandbx" }\nenforce = false\n')
    code, out, err = world.run("plan")
    assert (code, "2 to change" in out) == (0, True)
    assert "warning[exception-expired]: the exception of billing@example.com" in err
    assert "warning[intent-unanswered]: nothing answers to ou Sandbx" in err
    assert "--> imdsctl.toml:8" in err


def test_evidence_that_was_gathered_stands_in_the_plan(world: World) -> None:
    world.store.save_evidence(evidence_of({"i-00000001": {"no-token": 7}}))
    assert "used: 7 calls without a token in 14d" in world.run("plan")[1]


def test_what_if_answers_and_writes_nothing(world: World, tmp_path: Path) -> None:
    code, out, _ = world.run("plan", "--what-if", "account default optional in eu-west-1")
    assert code == 0
    assert "a launch that says nothing" in out
    assert "1 would fail." in out
    assert json.loads(world.run("plan", "--what-if", "enforce off", "--json")[1])["would_fail"] == 0
    assert world.run("plan", "--what-if", "enforce off", "-o", "plan.json")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_question_that_is_not_understood_shows_the_grammar(world: World) -> None:
    code, _, err = world.run("plan", "--what-if", "account default maybe")
    assert code == 2
    assert 'clause    "account default" setting' in err


def test_init_writes_a_file_that_plan_reads_and_never_over_one_that_is_there(world: World) -> None:
    code, out, _ = world.run("init")
    assert (code, "sandbox" in out) == (0, True)
    written = Path("imdsctl.toml").read_text()
    code, _, err = world.run("init")
    assert (code, "--force" in err) == (2, True)
    assert Path("imdsctl.toml").read_text() == written
    assert world.run("init", "--force")[0] == 0
    code, out, _ = world.run("plan")
    assert "Wave sandbox: 2 changes" in out
    assert world.run("intent", "check")[1] == (
        "imdsctl.toml: right; 0 scopes, 2 waves, 0 exceptions (0 expired, 0 expire within 30 days)\n"
    )


def test_check_tells_every_mistake_and_what_has_expired(world: World) -> None:
    Path("bad.toml").write_text("version = 1\nenforce = 'yes'\n[[wave]]\nnam = 'a'")
    code, _, err = world.run("intent", "check", "bad.toml")
    assert code == 2
    assert re.findall(r"bad.toml:\d", err) == ["bad.toml:2", "bad.toml:3", "bad.toml:4"]
    assert world.run("intent", "check")[0] == 2
    Path("imdsctl.toml").write_text(EXCEPTION)
    code, out, err = world.run("intent", "check")
    assert (code, "1 expired" in out, "exception-expired" in err) == (0, True, True)


def test_the_schema_is_printed(world: World) -> None:
    code, out, _ = world.run("intent", "schema")
    assert code == 0
    assert json.loads(out)["properties"]["exception"]


def test_the_register_of_exceptions_is_in_a_report(world: World) -> None:
    Path("imdsctl.toml").write_text(EXCEPTION.replace("2026-11-02", "2027-11-02"))
    out = world.run("report", "-f", "json")[1]
    accepted = [line for line in map(json.loads, out.splitlines()) if line.get("accepted")]
    assert [each["accepted"] for each in accepted] == ["billing@example.com, until 2027-11-02"]
