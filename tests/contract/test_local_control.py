"""What the commands of this machine may ask of a local AWS's metadata services, and who else may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.local.metadata.control import Control, read_reply, read_request, written_reply, written_request
from imdsctl.local.metadata.search import search
from imdsctl.local.metadata.services import Place
from imdsctl.local.paths import CONTROL_HEADER, CONTROL_PATH
from imdsctl.wire.http import HttpRequest

KEY = "key-of-the-server"


class Asked:
    """A control point, the instances of one Region, and which listeners were opened."""

    def __init__(self, offline: Any) -> None:
        self.offline = offline
        self.opened: list[tuple[Place, int]] = []
        self.control = Control(offline.aws.metadata, KEY, self._open, offline.aws.write)
        self.account = offline.member
        found = offline.client("ec2", self.account).describe_instances()["Reservations"]
        instances = [instance for each in found for instance in each["Instances"]]
        self.running = next(each for each in instances if each["State"]["Name"] == "running")

    def _open(self, place: Place, port: int) -> str:
        self.opened.append((place, port))
        return f"http://127.0.0.1:{port or 40001}"

    def named(self, **more: Any) -> dict[str, Any]:
        return {"account": self.account, "region": "us-east-1", "instance": self.running["InstanceId"], **more}

    def __call__(
        self, what: str, body: Any, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, Any]:
        given = {CONTROL_HEADER: KEY} if headers is None else headers
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.control.handle(HttpRequest(method, CONTROL_PATH + what, "", given, data))
        return response.status, json.loads(response.body) if response.body.startswith(b"{") else response.body

    def code(self, what: str, body: Any) -> tuple[int, str]:
        status, answer = self(what, body)
        return status, answer["diagnostic"]["code"]


@pytest.fixture
def asked(offline: Any) -> Asked:
    return Asked(offline)


def test_nobody_without_the_key_learns_that_there_is_anything(asked: Asked) -> None:
    body = asked.named()
    for headers in (
        {},
        {CONTROL_HEADER: ""},
        {CONTROL_HEADER: "wrong"},
        {CONTROL_HEADER: "kéy"},
        {"authorization": KEY},
    ):
        assert asked("describe", body, headers) == (404, b"not found\n")
    assert asked("describe", body, method="GET") == (404, b"not found\n")
    assert asked("describe", body, method="OPTIONS") == (404, b"not found\n")
    assert asked("everything", body) == (404, b"not found\n")
    assert asked("describe", body)[0] == 200


def test_the_status_that_anybody_may_read_does_not_tell_the_key(aws_shell: Any) -> None:
    import http.client
    from urllib.parse import urlsplit

    from imdsctl.adapters.local_registry import Registry, directory

    [entry] = Registry(directory(aws_shell.env)).entries()
    parts = urlsplit(aws_shell.env["AWS_ENDPOINT_URL"])
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", "/_imdsctl/status")
    said = connection.getresponse().read().decode()
    connection.close()
    assert len(entry.control) >= 32
    assert entry.control not in said


def test_an_instance_is_found_in_what_was_touched_or_where_one_says(asked: Asked, make_offline: Any) -> None:
    instance_id = asked.running["InstanceId"]
    status, found = asked("describe", {"instance": instance_id})
    assert status == 200
    assert (found["account"], found["region"], found["state"]) == (asked.account, "us-east-1", "running")
    assert found["options"]["HttpTokens"] == asked.running["MetadataOptions"]["HttpTokens"]
    assert asked.code("describe", {"instance": instance_id, "region": "eu-west-1"}) == (400, "instance-unknown")
    asked.control = Control(make_offline().aws.metadata, KEY, asked._open, asked.offline.aws.write)
    assert asked.code("describe", {"instance": instance_id}) == (400, "instance-unknown")
    assert asked("describe", asked.named())[0] == 200
    assert asked.code("describe", asked.named(account="999999999999")) == (400, "instance-unknown")


def test_who_has_lost_an_instance_finds_it_in_a_world_of_the_same_spec(asked: Asked) -> None:
    spec, instance_id = asked.offline.world.spec, asked.running["InstanceId"]
    assert search(spec, instance_id) == (asked.account, "us-east-1")
    assert search(spec, instance_id, asked.account) == (asked.account, "us-east-1")
    assert search(spec, instance_id, None, "us-east-1") == (asked.account, "us-east-1")
    assert search(spec, instance_id, None, "us-east-2") is None
    assert search(spec, instance_id, "000000000000") is None
    assert search(spec, "i-0none") is None


def test_a_listener_is_opened_for_what_exists(asked: Asked) -> None:
    assert asked("connect", asked.named(port=0)) == (200, {"endpoint": "http://127.0.0.1:40001"})
    assert asked.code("connect", asked.named(port=0, instance="i-0none")) == (400, "instance-unknown")
    ec2 = asked.offline.client("ec2", asked.account)
    ec2.stop_instances(InstanceIds=[asked.running["InstanceId"]])
    assert asked("connect", asked.named(port=4444))[0] == 200  # it may start again
    ec2.terminate_instances(InstanceIds=[asked.running["InstanceId"]])
    assert asked.code("connect", asked.named(port=0)) == (409, "instance-not-running")
    assert [port for _, port in asked.opened] == [0, 4444]


def test_a_request_is_answered_as_at_the_instance(asked: Asked) -> None:
    request = Request("GET", b"/latest/meta-data/instance-id", [(b"x-odd", b"\xff"), (b"x-odd", b"2")], ipv6=True)
    assert read_request(written_request(request)) == request
    request = Request("GET", b"/latest/meta-data/instance-id", request.headers)
    status, written = asked("respond", asked.named(**written_request(request)))
    assert status == 200
    reply = read_reply(written)
    assert isinstance(reply.access, Access)
    assert reply.content.startswith(b"HTTP/1.1 ")
    back = Reply(b"\x00\xff", 200, Access.TOKEN, "/latest/api/token", 2)
    assert read_reply(json.loads(json.dumps(written_reply(back)))) == back
    asked.offline.client("ec2", asked.account).stop_instances(InstanceIds=[asked.running["InstanceId"]])
    assert asked.code("respond", asked.named(**written_request(request))) == (409, "instance-not-running")


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b"{}", b'"text"', b"null", b'{"instance": 1}', b'{"instance": {}}', b"\xff\xfe"],
    ids=repr,
)
@pytest.mark.parametrize("what", ["describe", "connect", "respond", "notify"])
def test_what_is_no_request_is_refused(asked: Asked, what: str, body: bytes) -> None:
    assert asked(what, body)[0] == 400


def test_what_cannot_be_announced_is_refused_in_a_sentence(asked: Asked) -> None:
    def notify(action: str, **params: Any) -> tuple[int, Any]:
        return asked("notify", asked.named(action=action, params=params))

    assert notify("ScheduleEvent", Code="system-reboot", NotBefore=None)[0] == 200
    assert notify("ScheduleEvent", Code="system-reboot", NotBefore="2999-01-01T00:00:00+00:00")[0] == 200
    for action, params in (
        ("AnnounceInterruption", {}),
        ("RecommendRebalance", {}),
        ("ScheduleEvent", {"Code": "volcano"}),
        ("ScheduleEvent", {"Code": "system-reboot", "NotBefore": "2001-01-01T00:00:00+00:00"}),
        ("CancelEvent", {"EventId": "instance-event-0"}),
    ):
        status, answer = notify(action, **params)
        assert (status, answer["diagnostic"]["code"]) == (400, "notice-refused"), (action, params)
    assert notify("RecordMetadataCalls", Samples=[])[0] == 400
    assert notify("ScheduleEvent", Code="system-reboot", NotBefore="soon")[0] == 400
    assert not asked.offline.bugs
