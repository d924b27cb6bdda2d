"""The plan file on a real file system."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from imdsctl.adapters.plan_file import read_plan, write_plan
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, InstanceSeen, RegionSeen, Scan, Target
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Plan, canonical, plan_to_plain
from imdsctl.domain.planner import make_plan

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED)


@pytest.fixture
def plan() -> Plan:
    region = RegionSeen(Target("111122223333", "eu-west-1"), AccountDefaults())
    return make_plan(Scan("s1", NOON, NOON, (Account("111122223333", "a"),), (region,)), Intent(), made_at=NOON)


def problem(path: Path) -> tuple[str, str | None]:
    with pytest.raises(DiagnosticError) as caught:
        read_plan(path)
    assert caught.value.exit_code == 2
    (found,) = caught.value.diagnostics
    assert found.hint
    return found.code, found.subject


def test_what_was_written_is_read_back(tmp_path: Path, plan: Plan) -> None:
    digest = write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    assert read_plan(tmp_path / "plan.json").digest == digest


def test_the_same_plan_gives_the_same_bytes_and_leaves_nothing_else_behind(tmp_path: Path, plan: Plan) -> None:
    write_plan(plan, tmp_path / "a")
    write_plan(plan, tmp_path / "b")
    write_plan(plan, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_plan_cut_anywhere_is_refused(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "plan.json"
    write_plan(plan, path)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        assert problem(path) == ("plan-invalid", str(path))


def test_a_plan_that_was_edited_is_refused(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "plan.json"
    write_plan(plan, path)
    path.write_bytes(path.read_bytes().replace(b'"required"', b'"optional"'))
    assert problem(path)[0] == "plan-invalid"


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"null", b'{"format": "imdsctl-plan", "format_version": 2}', b"\xff"]
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    assert problem(path) == ("plan-invalid", str(path))


def test_a_plan_with_a_missing_member_is_refused_even_with_a_right_digest(tmp_path: Path, plan: Plan) -> None:
    from imdsctl.domain.plan import digest_of, plan_to_plain

    for member in ("scan", "intent", "changes", "unknown", "made_at"):
        body = {key: value for key, value in plan_to_plain(plan).items() if key not in ("digest", member)}
        (tmp_path / "plan.json").write_bytes(orjson.dumps({**body, "digest": digest_of(body)}))
        assert problem(tmp_path / "plan.json")[0] == "plan-invalid"


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    assert problem(tmp_path / "plan.json")[0] == "plan-unreadable"


def test_a_folder_that_is_not_there_is_a_diagnostic(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(DiagnosticError, match="plan-unwritable"):
        write_plan(plan, tmp_path / "missing" / "plan.json")


@pytest.mark.parametrize("place", ["/dev/null", "."])
def test_what_is_no_file_is_not_replaced(place: str, plan: Plan) -> None:
    with pytest.raises(DiagnosticError, match="plan-unwritable: this is not a file"):
        write_plan(plan, Path(place))


def test_the_file_is_the_plan_in_canonical_form_with_a_change_a_line(tmp_path: Path) -> None:
    region = RegionSeen(
        Target("111122223333", "eu-west-1"),
        AccountDefaults(),
        tuple(
            InstanceSeen(
                f"i-{number}", "running" if number % 3 else "pending", V1, tags=(("Name", f'web "{number}" \u2028'),)
            )
            for number in range(2_500)
        ),
    )
    accounts = (Account("111122223333", "a"),)
    plan = make_plan(
        Scan("s1", NOON, NOON, accounts, (region, replace(region, target=Target("1", "x")))), Intent(), made_at=NOON
    )
    write_plan(plan, tmp_path / "plan.json")
    content = (tmp_path / "plan.json").read_bytes()
    assert canonical(orjson.loads(content)) == canonical(plan_to_plain(plan))
    assert len([line for line in content.splitlines() if line.startswith(b'{"account"')]) == len(plan.changes)
    # Ids are texts like others: a plan whose ids somebody chose is written as it is.
    odd = replace(plan, changes=tuple(replace(each, id=f"{n}:{each.id}") for n, each in enumerate(plan.changes)))
    write_plan(odd, tmp_path / "odd.json")
    assert canonical(orjson.loads((tmp_path / "odd.json").read_bytes())) == canonical(plan_to_plain(odd))


def test_a_plan_that_somebody_laid_out_anew_is_the_same_plan(tmp_path: Path, plan: Plan) -> None:
    write_plan(plan, tmp_path / "plan.json")
    value = orjson.loads((tmp_path / "plan.json").read_bytes())
    (tmp_path / "plan.json").write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    assert read_plan(tmp_path / "plan.json") == plan
