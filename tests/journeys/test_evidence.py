"""`imdsctl scan; imdsctl evidence`: from nothing to the instances to look at, each command in a process of its own."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any


def test_from_a_scan_to_who_still_uses_imdsv1(start_local: Any) -> None:
    shell = start_local("--accounts", "4", "--instances", "8", "--seed", "5")
    where = ("--regions", "eu-west-1,us-east-1")
    assert shell.imdsctl("evidence").returncode == 1
    assert shell.imdsctl("scan", *where).returncode == 0

    refused = shell.imdsctl("evidence", "--max-cost", "0")
    assert refused.returncode == 2
    assert "error[cost-unconfirmed]" in refused.stderr

    gathered = shell.imdsctl("evidence", "--json")
    assert gathered.returncode == 0, gathered.stderr
    assert gathered.stderr.startswith("CloudWatch will be asked for ")
    document = json.loads(gathered.stdout)
    totals = document["totals"]
    assert totals["used"] > 0
    assert totals["unused"] > 0
    assert sum(totals.values()) == len(document["instances"])
    assert document["asked"]["metrics"] > 0
    assert document["unseen"] == []

    # The AWS CLI counts the same calls of an instance in another way.
    mine = json.loads(shell.aws("sts", "get-caller-identity", "--output", "json").stdout)["Account"]
    used = next(each for each in document["instances"] if each["use"] == "used" and each["account_id"] == mine)
    end = datetime.fromisoformat(document["taken"])
    start = (end - timedelta(seconds=document["look_back_seconds"])).replace(minute=0, second=0, microsecond=0)
    counted = shell.aws(
        *("cloudwatch", "get-metric-statistics", "--region", used["region"], "--output", "json"),
        *("--namespace", "AWS/EC2", "--metric-name", "MetadataNoToken", "--statistics", "Sum", "--period", "3600"),
        *("--dimensions", f"Name=InstanceId,Value={used['instance_id']}"),
        *("--start-time", start.isoformat(), "--end-time", end.isoformat()),
    )
    assert counted.returncode == 0, counted.stderr
    assert sum(each["Sum"] for each in json.loads(counted.stdout)["Datapoints"]) == used["no_token"]

    shown = shell.imdsctl("evidence", "--stored", "--roll-up", "account", "--fail-on", "used")
    assert shown.returncode == 1
    assert shown.stderr == ""
    assert f"{totals['used']} used" in shown.stdout
    assert "Instances to look at:" in shown.stdout
    again = json.loads(shell.imdsctl("evidence", "--stored", "--json").stdout)
    assert (again["asked"], again["totals"]) == (None, totals)
    assert again["instances"] == document["instances"]
