"""`history`, `diff` and `scans prune` on scans in memory: what is printed, and the exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.cli.test_commands import NOON, World
from tests.unit.domain.test_diff import BANK, NOTHING, SHOP, V1, V2, instance, region, scan

from imdsctl.domain.observations import AccountUnseen, ScanHeader, Unseen
from imdsctl.domain.verdicts import scan_summary
from imdsctl.views.json import scan_json

HOSTILE = "\x1b[2Jweb\n"


@pytest.fixture
def world() -> World:
    made = World()
    many = [instance(V1, f"i-{number}") for number in range(4)]
    hostile = replace(instance(V1, "i-9"), tags=(("Name", HOSTILE),))
    first = scan(region(*many, hostile))
    made.store.save(replace(first, scan_id="20261101T120000Z-aaaaaa", finished=NOON - timedelta(days=2)))
    second = scan(region(*(instance(V2, f"i-{number}") for number in range(3)), instance(NOTHING, "i-3")))
    made.store.save(replace(second, scan_id="20261102T120000Z-bbbbbb", finished=NOON - timedelta(days=1)))
    return made


def test_history_shows_the_newest_scan_first_and_the_trend(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.store.begin(ScanHeader("20261103T120000Z-cccccc", NOON, (), (("regions", "eu-west-1,us-east-1"),)))
    assert world.run("history") == 0
    assert capsys.readouterr().out == (
        "  SCAN                     FINISHED          SCOPE                ACCOUNTS  REGIONS  COVERAGE  EXPOSED"
        "  UNKNOWN\n"
        "  20261103T120000Z-cccccc  unfinished        regions=eu-west-1+1  0         0        -         -        -\n"
        "  20261102T120000Z-bbbbbb  2026-11-02 12:00  everything           2         1        60 %      1        1\n"
        "  20261101T120000Z-aaaaaa  2026-11-01 12:00  everything           2         1        0 %       6        0\n"
        "\n"
        "Coverage over 2 scans of everything, oldest first:\n"
        "  region defaults  ▁▁  0 % -> 0 %\n"
        "  instances        ▁▇  0 % -> 75 %\n"
        "\n"
        "Next: `imdsctl scan --resume` goes on with an unfinished scan.\n"
    )


def test_history_as_json_and_limited(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("history", "--json", "--limit", "1") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["kept"]) == ("history", 2)
    (newest,) = found["scans"]
    assert (newest["scan_id"], newest["coverage"]) == ("20261102T120000Z-bbbbbb", 0.6)
    assert newest["totals"]["instances"] == {"exposed": 0, "enforced": 3, "unknown": 1}


def test_what_could_not_be_entered_is_unknown_in_history_as_in_the_scan_and_the_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three commands, one number; and what nobody can look into is counted on its own."""
    refused = AccountUnseen(BANK, None, Unseen("account", "the role could not be assumed", "AccessDenied"))
    shut = AccountUnseen(SHOP, "af-south-1", Unseen("Region", "not enabled", "RegionNotEnabled"))
    world = World()
    taken = scan(unseen=(refused, shut))
    world.store.save(taken)
    assert world.run("history") == 0
    newest = capsys.readouterr().out.splitlines()[1].split()
    assert newest[-4:] == ["%", "0", "1", "1"]
    world.run("history", "--json")
    (record,) = json.loads(capsys.readouterr().out)["scans"]
    unknown = {"exposed": 0, "enforced": 0, "unknown": 1}
    assert (record["verdicts"], record["not_entered"], record["not_inspectable"]) == (unknown, 1, 1)
    assert json.loads("".join(scan_json(taken, scan_summary(taken))))["totals"]["verdicts"] == unknown
    world.run("report", "-f", "json")
    totals = json.loads(capsys.readouterr().out.splitlines()[0])["totals"]
    assert {name: totals[name] for name in unknown} == unknown


def test_history_of_nothing_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert World().run("history") == 0
    assert "imdsctl scan" in capsys.readouterr().out


def test_diff_lists_what_happened_and_ends_with_the_sums(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("diff") == 0
    output = capsys.readouterr().out
    assert output.startswith(
        f"{SHOP}/eu-west-1\n"
        "  = instance i-0 (web) became enforced (was exposed): HttpTokens=required"
        " [HttpTokens optional -> required]\n"
    )
    assert "  ? instance i-3 (web) became unknown (was exposed): the answer does not say HttpTokens" in output
    assert "  - instance i-9 (\\u001b[2Jweb\\u000a) vanished (was exposed)\n" in output
    assert output.endswith(
        "\n\n1 became unknown, 3 became enforced, 1 vanished between 20261101T120000Z-aaaaaa (2026-11-01 12:00)"
        " and 20261102T120000Z-bbbbbb (2026-11-02 12:00).\n"
    )


def test_diff_as_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("diff", "2026-11-01", "20261102", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["totals"]["became enforced"] == 3
    assert found["differences"][0] == {
        "happened": "became enforced",
        "account_id": SHOP,
        "region": "eu-west-1",
        "kind": "instance",
        "resource": "i-0",
        "name": "web",
        "before": "exposed",
        "after": "enforced",
        "reason": "HttpTokens=required",
        "options": [{"name": "HttpTokens", "before": "optional", "after": "required"}],
    }


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((), 0), (("--exit-code",), 3), (("latest", "latest", "--exit-code"), 0), (("nosuch",), 2), (("2026",), 2)],
)
def test_the_exit_code_of_diff(world: World, arguments: tuple[str, ...], code: int) -> None:
    assert world.run("diff", *arguments) == code


def test_the_same_scan_has_no_difference(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.run("diff", "latest", "latest")
    assert capsys.readouterr().out.startswith("No difference between 20261102T120000Z-bbbbbb")


def test_prune_forgets_and_says_what(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("scans", "prune", "--older-than", "36h", "--dry-run") == 0
    assert capsys.readouterr().out == "20261101T120000Z-aaaaaa\n"
    assert len(world.store.history()) == 2
    assert world.run("scans", "prune", "--keep", "1") == 0
    assert "1 forgotten, 1 kept" in capsys.readouterr().err
    assert [each.scan_id for each in world.store.history()] == ["20261102T120000Z-bbbbbb"]


def test_prune_wants_to_be_told_what(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("scans", "prune") == 2
    assert "error[usage]" in capsys.readouterr().err
