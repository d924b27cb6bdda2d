"""Policies: one simulated request, and a million recorded calls replayed under the generated guardrails.

The events are RunInstances, CreateFleet, template and modify calls of 400 roles in 40 accounts, written as CloudTrail
writes them, in gzipped files of 2,000 records. Figures are CPU seconds and peak memory of the command itself.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.measure import Cores, on_core
from bench.report import Line, NotMeasured, at_most
from bench.servers import REPOSITORY

EVENTS = 1_000_000
A_FILE = 2_000
SIMULATIONS = 2_000
CPU_SECONDS_MAX, RSS_MIB_MAX, SIMULATE_MS_MAX = 60, 300, 1.0


def weigh_policy(cores: Cores, events: int = EVENTS) -> tuple[list[Line], Any]:
    """Time of a simulation, and what a replay costs."""
    with on_core(cores.server):
        milliseconds = simulate_milliseconds()
        with TemporaryDirectory() as folder:
            size = write_events(Path(folder), events)
            seconds, memory = _replay(Path(folder))
    section = f"policy, {events:,} CloudTrail events ({size >> 20:,} MiB unpacked)"
    lines = [
        at_most("policy", "simulate one launch, loaded", milliseconds, SIMULATE_MS_MAX, "ms", 3),
        at_most(section, "replay, CPU", seconds, CPU_SECONDS_MAX, "s", 1),
        at_most(section, "replay, peak memory", memory, RSS_MIB_MAX, "MiB", 0),
    ]
    return lines, {"simulate_ms": milliseconds, "replay_cpu_s": seconds, "replay_rss_mib": memory, "events": events}


def simulate_milliseconds() -> float:
    """One launch under the generated guardrails, a boundary and an identity-based policy, with its reasons."""
    from imdsctl.codify.asked import Asked
    from imdsctl.codify.guardrails import Settings, guardrails
    from imdsctl.codify.packing import Form, packed
    from imdsctl.codify.policy_set import FULL_ACCESS, PolicySet, with_full_access, written
    from imdsctl.codify.simulate import Simulator
    from imdsctl.policy.document import PolicyKind
    from imdsctl.policy.request import Principal, PrincipalKind

    [scp] = packed(Form.SCP, guardrails(Settings()), "guard")
    level = with_full_access([written(scp.minified, name="guard", kind=PolicyKind.SCP)])
    identity = (written(FULL_ACCESS, name="own", kind=PolicyKind.IDENTITY),)
    boundary = written(FULL_ACCESS, name="edge", kind=PolicyKind.BOUNDARY)
    simulator = Simulator(PolicySet((("root", level), ("account", level)), identity, boundary))
    caller = Principal(PrincipalKind.USER, "arn:aws:iam::111122223333:user/ann", "111122223333")
    params = {"ImageId": "ami-1", "InstanceType": "t3.micro", "MetadataOptions": {"HttpTokens": "required"}}
    asked = Asked("RunInstances", params, caller)
    started = time.process_time()
    for _ in range(SIMULATIONS):
        simulator.outcome(asked)
    return (time.process_time() - started) / SIMULATIONS * 1000


def _replay(folder: Path) -> tuple[float, float]:
    command = [
        sys.executable,
        "-m",
        "imdsctl",
        "policy",
        "replay",
        "--generated",
        "--json",
        "--cloudtrail",
        str(folder),
    ]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise NotMeasured(f"imdsctl policy replay ended with {child.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


# -- events ----------------------------------------------------------------------------------------------------------


def write_events(folder: Path, count: int, *, seed: int = 1) -> int:
    """Files of records, gzipped; gives their size in bytes before that."""
    dice = random.Random(seed)
    size = 0
    made = [record(dice, number) for number in range(min(count, A_FILE))]
    texts = [json.dumps(each, separators=(",", ":")) for each in made]
    for first in range(0, count, A_FILE):
        here = dice.sample(texts, len(texts))[: count - first]
        # Every event is of a session of its own; the rest repeats.
        body = ",".join(text.replace("build-", f"build-{first + number:x}") for number, text in enumerate(here))
        data = ('{"Records":[' + body + "]}").encode()
        size += len(data)
        with gzip.open(folder / f"{first // A_FILE:05}.json.gz", "wb", compresslevel=1) as file:
            file.write(data)
    return size


def record(dice: random.Random, number: int) -> dict[str, Any]:
    """One record, its members in CloudTrail's order."""
    account = f"{100000000000 + dice.randrange(40):012}"
    role = f"deployer-{dice.randrange(10)}"
    session = f"build-{dice.randrange(1 << 32):08x}"
    name, params = _call(dice)
    return {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": f"AROAEXAMPLE{number:010}:{session}",
            "arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
            "accountId": account,
            "accessKeyId": f"ASIAEXAMPLE{number:09}",
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": "AROAEXAMPLE",
                    "arn": f"arn:aws:iam::{account}:role/{role}",
                    "accountId": account,
                    "userName": role,
                },
                "attributes": {"creationDate": "2026-11-01T10:00:00Z", "mfaAuthenticated": "false"},
            },
        },
        "eventTime": "2026-11-01T10:00:00Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": name,
        "awsRegion": dice.choice(["us-east-1", "eu-west-1", "eu-central-1"]),
        "sourceIPAddress": f"10.0.{dice.randrange(256)}.{dice.randrange(256)}",
        "userAgent": dice.choice(["APN/1.0 HashiCorp/1.0 Terraform/1.5.7", "aws-cli/2.15.0", "Boto3/1.34.0"]),
        "requestParameters": params,
        "responseElements": {"requestId": f"{number:032x}", "instancesSet": {"items": [_answer(dice)]}},
        "requestID": f"{number:032x}",
        "eventID": f"{number:032x}",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }


def _call(dice: random.Random) -> tuple[str, dict[str, Any]]:
    kind = dice.randrange(10)
    options = dice.choice([{}, {"httpTokens": "required"}, {"httpTokens": "optional", "httpPutResponseHopLimit": 1}])
    if kind < 6:
        params: dict[str, Any] = {
            "instancesSet": {"items": [{"imageId": f"ami-{dice.randrange(20):017x}", "minCount": 1, "maxCount": 1}]},
            "instanceType": dice.choice(["t3.micro", "m5.large"]),
            "clientToken": f"{dice.randrange(1 << 62):x}",
            "tagSpecificationSet": {
                "items": [
                    {"resourceType": "instance", "tags": [{"key": "Name", "value": f"web-{dice.randrange(999)}"}]}
                ]
            },
        }
        if options:
            params["metadataOptions"] = options
        if kind == 0:
            params["launchTemplate"] = {"launchTemplateId": f"lt-{dice.randrange(9):017x}", "version": "3"}
        return "RunInstances", params
    if kind == 6:
        configs = {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "1"}, "tag": 1}
        return "CreateFleet", {"CreateFleetRequest": {"LaunchTemplateConfigs": configs, "Type": "instant"}}
    if kind == 7:
        data = {"ImageId": "ami-1", "MetadataOptions": {"HttpTokens": dice.choice(["required", "optional"])}}
        request = {"LaunchTemplateName": f"web-{dice.randrange(50)}", "LaunchTemplateData": data}
        return "CreateLaunchTemplate", {"CreateLaunchTemplateRequest": request}
    if kind == 8:
        request = {"InstanceId": f"i-{dice.randrange(9999):017x}", "HttpTokens": dice.choice(["required", "optional"])}
        return "ModifyInstanceMetadataOptions", {"ModifyInstanceMetadataOptionsRequest": request}
    return "ModifyInstanceMetadataDefaults", {"ModifyInstanceMetadataDefaultsRequest": {"HttpTokens": "required"}}


def _answer(dice: random.Random) -> dict[str, Any]:
    return {
        "instanceId": f"i-{dice.randrange(1 << 60):017x}",
        "imageId": "ami-00000000000000001",
        "instanceState": {"code": 0, "name": "pending"},
        "privateDnsName": "ip-10-0-0-1.ec2.internal",
        "placement": {"availabilityZone": "us-east-1a", "tenancy": "default"},
        "subnetId": "subnet-00000000000000001",
        "vpcId": "vpc-00000000000000001",
        "metadataOptions": {"state": "pending", "httpTokens": "required", "httpPutResponseHopLimit": 2},
        "groupSet": {"items": [{"groupId": "sg-00000000000000001", "groupName": "default"}]},
    }
