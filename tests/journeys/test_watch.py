"""`imdsctl watch` against a local AWS: scans, a queue of events, a webhook, a repair, and both ways to end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

REGION = "eu-west-1"
ENDED = 60.0


class Place:
    """A local AWS of one account that a test may change, and a terminal."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.ec2 = self.client("ec2")
        self.sqs = self.client("sqs", shell.env["AWS_REGION"])
        self.trail = self.client("cloudtrail")
        self.cloudwatch = self.client("cloudwatch")

    def client(self, service: str, region: str = REGION) -> Any:
        env = self.shell.env
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=env["AWS_ENDPOINT_URL"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}),
        )

    def launch(self) -> str:
        """An instance with tokens required."""
        images = self.ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "name", "Values": ["al2023-ami-2023*"]}])
        made = self.ec2.run_instances(
            ImageId=images["Images"][0]["ImageId"],
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        )
        return str(made["Instances"][0]["InstanceId"])

    def tokens(self, instance_id: str) -> str:
        found = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return str(found["MetadataOptions"]["HttpTokens"])

    def event(self, name: str) -> str:
        """The latest event of that name, as a rule of EventBridge puts it into a queue."""
        attributes = [{"AttributeKey": "EventName", "AttributeValue": name}]
        record = json.loads(self.trail.lookup_events(LookupAttributes=attributes)["Events"][0]["CloudTrailEvent"])
        return json.dumps({"detail-type": "AWS API Call via CloudTrail", "source": "aws.ec2", "detail": record})

    def that_used_v1(self) -> str:
        """A running instance of which CloudWatch has IMDSv1 calls."""
        now = datetime.now(UTC)
        for page in self.ec2.get_paginator("describe_instances").paginate():
            for instance in (each for reservation in page["Reservations"] for each in reservation["Instances"]):
                found = self.cloudwatch.get_metric_statistics(
                    Namespace="AWS/EC2",
                    MetricName="MetadataNoToken",
                    Dimensions=[{"Name": "InstanceId", "Value": instance["InstanceId"]}],
                    StartTime=now - timedelta(days=14),
                    EndTime=now,
                    Period=86400,
                    Statistics=["Sum"],
                )
                if instance["State"]["Name"] == "running" and any(each["Sum"] for each in found["Datapoints"]):
                    return str(instance["InstanceId"])
        raise AssertionError("no instance of the generated fleet uses IMDSv1")

    def watch(self, *options: str, **changed: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self.shell.imdsctl(
            "watch", "--regions", REGION, "--current-account", "--json", *options, **changed
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "imdsctl", "watch", "--regions", REGION, "--current-account", *options],
            env=self.shell.env,
            cwd=self.shell.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def told(done: subprocess.CompletedProcess[str], kind: str) -> list[dict[str, Any]]:
    """The events of a kind that a watch printed."""
    return [each for line in done.stdout.splitlines() if (each := json.loads(line))["kind"] == kind]


@pytest.fixture(scope="module")
def place(start_local: Any) -> Place:
    return Place(start_local("--accounts", "2", "--instances", "12", "--seed", "7", "--v1-percent", "100"))


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes notices, and what it took."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hush?token=hush", taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_scans_tell_drift_with_its_author_and_a_repair_puts_it_right(
    place: Place, hook: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    instance = place.launch()
    assert told(place.watch("--once"), "round")[0]["drift"] == []
    place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    url, taken = hook
    repairs = tmp_path / "repairs"
    done = place.watch("--once", "--repair", "--repairs", str(repairs), "--webhook", url, no_proxy="127.0.0.1")
    [ended] = told(done, "round")
    [drift] = ended["drift"]
    assert drift["change"]["resource"] == instance
    assert drift["actor"]["arn"].endswith(":user/imdsctl-admin")
    assert drift["actor"]["event_name"] == "ModifyInstanceMetadataOptions"
    assert [each["outcome"] for each in told(done, "repair")[0]["changes"]] == ["applied"]
    assert place.tokens(instance) == "required"
    assert sorted(each.suffix for each in repairs.iterdir()) == [".journal", ".json"]
    assert [each["kind"] for each in taken] == ["round", "repair"]
    assert instance in taken[0]["text"]
    assert "hush" not in done.stdout + done.stderr
    assert told(place.watch("--once"), "round")[0]["drift"] == []


def test_a_scan_that_left_other_services_out_is_nothing_to_compare_with(place: Place, tmp_path: Path) -> None:
    """Otherwise every service would have drifted, and every host of which only they tell that it runs containers."""
    where = ("--db", str(tmp_path / "scans.sqlite3"))
    scan = ("scan", "--regions", REGION, "--current-account", *where)
    assert place.shell.imdsctl(*scan, "--no-services").returncode == 0
    assert told(place.watch("--once", *where), "began")[0]["baseline"] is None
    assert place.shell.imdsctl(*scan, "--no-services").returncode == 0
    second = place.watch("--once", *where)
    assert told(second, "began")[0]["baseline"] is not None
    assert told(second, "round")[0]["drift"] == []


def test_a_repair_asks_cloudwatch_first_and_is_held_back_where_imdsv1_is_used(place: Place, tmp_path: Path) -> None:
    """The gates that come before a change hold for repairs too: what broke a workload once would break it again."""
    instance = place.that_used_v1()
    place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="required")
    intent = tmp_path / "imdsctl.toml"
    intent.write_text('version = 1\n[[wave]]\nname = "all"\nno-v1-calls = "14d"\n')
    watch = ("--once", "--intent", str(intent))
    place.watch(*watch)
    place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    done = place.watch(*watch, "--repair", "--repairs", str(tmp_path / "repairs"))
    assert [each["change"]["resource"] for each in told(done, "round")[0]["drift"]] == [instance]
    [change] = told(done, "repair")[0]["changes"]
    assert change["outcome"] == "held back"
    assert "1 instance used IMDSv1 in the last 14 days" in change["detail"]
    assert place.tokens(instance) == "optional"


def test_the_intent_in_the_current_folder_counts_and_what_it_excepts_is_not_repaired(place: Place) -> None:
    instance = place.launch()
    intent = place.shell.home / "imdsctl.toml"
    intent.write_text(
        f'version = 1\n[[exception]]\nmatch = {{ resource = "{instance}" }}\n'
        'owner = "shop"\nreason = "its agent knows IMDSv1 only"\nexpires = 2099-12-31\n'
    )
    try:
        place.watch("--once")
        place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
        done = place.watch("--once", "--repair")
    finally:
        intent.unlink()
    assert told(done, "began")[0]["intent"] == "imdsctl.toml"
    assert told(done, "round")[0]["drift"] == []
    assert place.tokens(instance) == "optional"


def test_events_of_a_queue_are_done_with_only_after_a_look(place: Place) -> None:
    instance = place.launch()
    place.watch("--once")
    url = place.sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    place.sqs.send_message(QueueUrl=url, MessageBody=place.event("ModifyInstanceMetadataOptions"))
    place.sqs.send_message(QueueUrl=url, MessageBody="no event")
    done = place.watch("--queue", url, "--once")
    [ended] = told(done, "round")
    assert [each["change"]["resource"] for each in ended["drift"]] == [instance]
    assert ended["drift"][0]["actor"]["source_ip"] == "127.0.0.1"
    assert "not JSON" in told(done, "trouble")[0]["reason"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = place.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    assert sum(map(int, left.values())) == 1  # the one that is no event


def test_events_of_a_file_are_followed_and_a_signal_ends_it(place: Place, tmp_path: Path) -> None:
    instance = place.launch()
    place.watch("--once")
    place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    file = tmp_path / "events.jsonl"
    file.write_text(place.event("ModifyInstanceMetadataOptions") + "\n")
    for number, code, words in ((signal.SIGTERM, 0, ""), (signal.SIGINT, 130, "no message was lost")):
        watch = place.start("--events", str(file))
        assert watch.stdout is not None
        hanging = threading.Timer(ENDED, watch.kill)
        hanging.start()
        lines = []
        for line in watch.stdout:  # printed as it happens
            lines.append(line)
            if "by arn:" in line:
                break
        hanging.cancel()
        assert any(instance in line for line in lines)
        os.kill(watch.pid, number)
        _, err = watch.communicate(timeout=ENDED)
        assert (watch.returncode, words in err) == (code, True), err


def test_an_exception_that_is_registered_while_it_watches_is_honoured(place: Place, tmp_path: Path) -> None:
    instance = place.launch()
    place.watch("--once")
    intent, events = tmp_path / "i.toml", tmp_path / "events.jsonl"
    intent.write_text("version = 1\n")
    events.write_text("")
    watch = place.start("--events", str(events), "--intent", str(intent), "--repair", "--count", "1")
    assert watch.stdout is not None
    hanging = threading.Timer(ENDED, watch.kill)
    hanging.start()
    while "Watching." not in watch.stdout.readline():
        assert watch.poll() is None
    with intent.open("a") as file:
        file.write(
            f'[[exception]]\nmatch = {{ resource = "{instance}" }}\n'
            'owner = "shop"\nreason = "its agent knows IMDSv1 only"\nexpires = 2099-12-31\n'
        )
    place.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    events.write_text(place.event("ModifyInstanceMetadataOptions") + "\n")
    out, err = watch.communicate(timeout=ENDED)
    hanging.cancel()
    assert watch.returncode == 0, err
    assert f"intent: {intent} has changed and was read again" in out
    assert "no drift" in out
    assert place.tokens(instance) == "optional"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--interval", "soon"), "duration-invalid"),
        (("--once", "--count", "2"), "option-conflict"),
        (("--queue", "http://h/1/q", "--events", "x"), "option-conflict"),
        (("--repairs", "x"), "option-conflict"),
        (("--queue", "events"), "queue-invalid"),
        (("--events", "none"), "events-unreadable"),
        (("--webhook", "host"), "webhook-invalid"),
    ],
)
def test_a_wrong_command_line_is_refused(place: Place, options: tuple[str, ...], code: str) -> None:
    done = place.shell.imdsctl("watch", *options)
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr


def test_a_queue_that_is_not_there_ends_the_watch(place: Place) -> None:
    url = place.shell.env["AWS_ENDPOINT_URL"] + "/111122223333/none"
    done = place.shell.imdsctl("watch", "--queue", url, "--current-account")
    assert done.returncode == 1
    assert "error[queue-refused]" in done.stderr
