"""A rollout in waves, as an operations team sees it: gates that close, fail, pass; rollback; who may write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from imdsctl.adapters.data_directory import data_directory
from imdsctl.adapters.machine_lock import machine_lock

HERE = "eu-west-1"
WHERE = ("--regions", HERE)


@pytest.fixture(scope="module")
def shell(start_local: Callable[..., Any]) -> Any:
    # Nobody uses IMDSv1 here but the instance of which the test says so.
    return start_local("--accounts", "2", "--regions", HERE, "--instances", "8", "--v1-percent", "0")


@pytest.fixture(scope="module")
def accounts(shell: Any) -> list[str]:
    listed = shell.imdsctl("scan", "--json", *WHERE)
    assert listed.returncode == 0, listed.stderr
    targets = json.loads(listed.stdout)["targets"]
    return sorted((each["account_id"] for each in targets), key=lambda name: exposed_in(targets, name))


def exposed_in(targets: list[dict[str, Any]], account: str) -> int:
    instances = [i for each in targets if each["account_id"] == account for i in each["instances"]]
    return sum(each["options"].get("HttpTokens") == "optional" for each in instances)


def intent(shell: Any, accounts: list[str], more: str = "") -> str:
    text = f"""version = 1
[[wave]]
name = "canary"
match = {{ account = ["{accounts[0]}"] }}
[[wave]]
name = "rest"
approval = true
no-v1-calls = "1h"
unknown-evidence = "allow"
{more}
"""
    (shell.home / "imdsctl.toml").write_text(text)
    return "imdsctl.toml"


def plan_of(shell: Any, name: str) -> tuple[dict[str, Any], str]:
    assert shell.imdsctl("scan", *WHERE).returncode == 0
    planned = shell.imdsctl("plan", "--intent", "imdsctl.toml", "-o", name)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads((shell.home / name).read_text())
    return plan, str(plan["count"])


def tokens_of(shell: Any, change: dict[str, Any]) -> str:
    """What an instance says, as boto3 sees it."""
    settings = shell.exporting(shell.imdsctl("local", "env", "--account", change["account"]).stdout).env
    ec2 = boto3.client(
        "ec2",
        region_name=HERE,
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )
    (reservation,) = ec2.describe_instances(InstanceIds=[change["resource"]])["Reservations"]
    return str(reservation["Instances"][0]["MetadataOptions"]["HttpTokens"])


def uses_v1(shell: Any, account: str, instance: str) -> None:
    """Somebody's software calls the metadata service without a token: CloudWatch has it."""
    settings = shell.exporting(shell.imdsctl("local", "env", "--account", account).stdout)
    sent = settings.imdsctl("local", "connect", "--region", HERE, "--json", instance)
    assert sent.returncode == 0, sent.stderr
    endpoint = json.loads(sent.stdout)["endpoint"]
    called = shell.run("curl", "-sf", f"{endpoint}/latest/meta-data/instance-id")
    assert called.stdout == instance


@pytest.mark.slow
def test_a_gate_names_who_still_uses_v1_and_after_the_exception_the_rollout_ends(
    shell: Any, accounts: list[str]
) -> None:
    intent(shell, accounts)
    plan, count = plan_of(shell, "first.json")
    second = [each for each in plan["changes"] if each["wave"] == "rest" and each["surface"] == "instance"]
    victim = next(
        each for each in second if "HttpTokens" in each["after"] and each["before"]["HttpEndpoint"] == "enabled"
    )
    uses_v1(shell, victim["account"], victim["resource"])

    unapproved = shell.imdsctl("apply", "first.json", "--confirm", count)
    assert unapproved.returncode == 4, unapproved.stderr
    assert "error[gate-closed]" in unapproved.stderr
    assert "--approve rest" in unapproved.stderr

    failed = shell.imdsctl("apply", "first.json", "--confirm", count, "--approve", "rest")
    assert failed.returncode == 5, failed.stderr
    assert "error[gate-failed]" in failed.stderr
    assert f"{victim['account']}/{HERE}/{victim['resource']}: MetadataNoToken 1" in failed.stderr
    assert "[[exception]]" in failed.stderr
    assert tokens_of(shell, victim) == "optional"
    journal = [json.loads(line) for line in (shell.home / "first.json.journal").read_text().splitlines()]
    (approval,) = [each for each in journal if each.get("entry") == "approved"]
    assert approval["by"].endswith("user/imdsctl-admin")
    assert (shell.home / "first.json.journal").stat().st_mode & 0o777 == 0o600

    exception = f"""[[exception]]
match = {{ resource = ["{victim["resource"]}"] }}
owner = "shop"
reason = "agent 3 knows IMDSv1 only"
expires = 2099-12-31
"""
    intent(shell, accounts, exception)
    _, count = plan_of(shell, "second.json")
    through = shell.imdsctl("apply", "second.json", "--confirm", count, "--approve", "rest")
    assert through.returncode == 0, through.stderr
    verified = shell.imdsctl("verify", "--intent", "imdsctl.toml", "--launch-dry-run", *WHERE)
    assert "an exception of shop until 2099-12-31: agent 3 knows IMDSv1 only" in verified.stdout
    assert "DryRun launches: " in verified.stdout
    assert "predicted, not proven" in verified.stdout

    other = next(each for each in second if each is not victim and "HttpTokens" in each["after"])
    assert (tokens_of(shell, victim), tokens_of(shell, other)) == ("optional", "required")

    rolled = shell.imdsctl("rollback", "second.json", "--wave", "rest", "--delete-versions")
    assert rolled.returncode == 2
    number = rolled.stderr.rsplit("--confirm ", 1)[1].split("`")[0]
    rolled = shell.imdsctl("rollback", "second.json", "--wave", "rest", "--delete-versions", "--confirm", number)
    assert rolled.returncode == 0, rolled.stderr
    assert f"Rollback: {number} restored." in rolled.stdout
    assert tokens_of(shell, other) == "optional"
    again = shell.imdsctl("apply", "second.json", "--confirm", count)
    assert (again.returncode, "error[plan-rolled-back]" in again.stderr) == (1, True)

    expired = exception.replace("2099-12-31", "2020-01-01")
    intent(shell, accounts, expired)
    verified = shell.imdsctl("verify", "--intent", "imdsctl.toml", *WHERE)
    assert verified.returncode == 1
    assert "error[exception-expired]" in verified.stderr


def test_a_team_that_names_its_database_writes_one_at_a_time(shell: Any, accounts: list[str]) -> None:
    intent(shell, accounts)
    _, count = plan_of(shell, "team.json")
    stopped = shell.imdsctl("apply", "team.json", "--confirm", count, "--db", "team.sqlite3")
    assert stopped.returncode in (0, 4), stopped.stderr
    journal = [json.loads(line) for line in (shell.home / "team.json.journal").read_text().splitlines()]
    assert [each["fencing"] for each in journal if each.get("entry") == "run"] == [1]


def test_two_plans_of_one_user_are_not_applied_at_once_without_a_database_either(
    shell: Any, accounts: list[str]
) -> None:
    intent(shell, accounts)
    _, count = plan_of(shell, "other.json")
    data = data_directory(shell.env)
    account = json.loads(shell.aws("sts", "get-caller-identity").stdout)["Account"]
    with machine_lock(data, account, "the first"):
        refused = shell.imdsctl("apply", "other.json", "--confirm", count)
    assert refused.returncode == 1
    assert "error[apply-running]: the first is at work by the same account" in refused.stderr
    assert shell.imdsctl("apply", "other.json", "--confirm", count).returncode in (0, 4)
