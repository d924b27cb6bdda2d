"""The config file of `imdsctl imds serve`: what it can say, and that every mistake in it is reported with its line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.imds.facts import SpotAction
from imdsctl.imds.fixed import example_facts
from imdsctl.imds.mock import Mock, MockSource, Notice
from imdsctl.imds.mock_file import MockFile, parse_mock_file

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOON = BEGAN.timestamp()


def read(name: str) -> bytes:
    if name != "there":
        raise FileNotFoundError(2, "No such file or directory")
    return b"\x00content"


def parsed(text: str) -> MockFile:
    return parse_mock_file(text, "imds.toml", read)


def test_an_empty_file_says_nothing() -> None:
    assert parsed("") == MockFile()


def test_options_keep_silent_where_the_file_does() -> None:
    options = parsed('[options]\nhttp-tokens = "required"\nhop-limit = 64\nhttp-endpoint = "disabled"').options
    assert options == MetadataOptions(HttpTokens.REQUIRED, 64, Switch.DISABLED)


def test_the_instance_its_tags_and_its_network() -> None:
    found = parsed(
        '[instance]\nregion = "eu-west-1"\nrole = "web"\ninstance-type = "t4g.nano"\narchitecture = "arm64"\n'
        'private-ipv4 = "10.1.2.3"\nuser-data = "hi"\nkey-name = "k"\npublic-key = "ssh-ed25519 A"\n'
        '[instance.tags]\nName = "web"'
    )
    assert (found.region, found.role, found.network) == ("eu-west-1", "web", {"private-ipv4": "10.1.2.3"})
    assert found.instance == {
        "instance_type": "t4g.nano",
        "architecture": "arm64",
        "user_data": b"hi",
        "public_key": ("k", "ssh-ed25519 A"),
        "tags": {"Name": "web"},
    }


def test_paths_may_be_given_as_text_or_by_a_file() -> None:
    found = parsed('[paths]\n"meta-data/ami-id" = "ami-1"\n"user-data" = { file = "there" }')
    assert found.overrides == {"meta-data/ami-id": b"ami-1", "user-data": b"\x00content"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[options", 1, "not TOML"),
        ("[optoins]", 1, "`optoins` is not known here"),
        ('[options]\nhttp-tokens = "requird"', 2, "`http-tokens` is `requird`"),
        ("[options]\nhop-limit = 65", 2, "`hop-limit` is `65`"),
        ("[options]\nhop-limit = true", 2, "`hop-limit` is `True`"),
        ("options = 3", 1, "`options` has to be a table"),
        ("[instance]\ninstance-typ = 1", 2, "`instance-typ` is not known here"),
        ("[instance]\ninstance-id = 7", 2, "`instance-id` is `7`"),
        ('[instance]\nprivate-ipv4 = "::1"', 2, "`private-ipv4` is `::1`"),
        ('[instance]\nuser-data-file = "missing"', 2, "`missing` cannot be read"),
        ('[instance]\nkey-name = "k"', 1, "`key-name` and `public-key` belong together"),
        ("[instance.tags]\nName = 3", 2, "the tag `Name` is `3`"),
        ('[spot]\naction = "die"', 2, "`action` is `die`"),
        ("[spot]\nafter-seconds = -1", 2, "`after-seconds` is `-1`"),
        ("[rebalance]\nat = 2026-01-01T00:00:00", 2, "`at` is `2026-01-01 00:00:00`"),
        ('[autoscaling]\ntarget-lifecycle-state = "Gone"', 2, "`target-lifecycle-state` is `Gone`"),
        ("[maintenance]\ncode = 1", 1, "`maintenance` has to be a list of tables"),
        ('[[maintenance]]\nstate = "active"\nnot-before = 2026-01-01T00:00:00Z', 1, "an event needs its `code`"),
        ('[[maintenance]]\ncode = "system-reboot"\nstate = "completed"', 1, "needs its `not-before`"),
        ('[roles.web]\naccess-key-id = "A"\nsession-token = "t"', 1, "lacks its `secret-access-key`"),
        ('[instance]\nrole = "app"\n[roles.web]\naccess-key-id = "A"\nsecret-access-key = "s"\nsession-token = "t"', 2,
         "there is no role `app`"),
        ('[paths]\n"latest/meta-data/ami-id" = "x"', 2, "is not a path of the metadata"),
        ('[paths]\n"/meta-data/ami-id" = "x"', 2, "is not a path of the metadata"),
        ('[paths]\n"meta-data/../ami-id" = "x"', 2, "is not a path of the metadata"),
        ('[paths]\n"meta-data/ami-id" = 3', 2, "`meta-data/ami-id` is `3`"),
        ('[paths]\n"user-data" = { file = "missing" }', 2, "`missing` cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parsed(text)
    assert [each.subject for each in caught.value.diagnostics] == [f"imds.toml:{line}"]
    assert said in caught.value.diagnostics[0].summary
    assert caught.value.diagnostics[0].hint
    assert caught.value.exit_code == 2


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(DiagnosticError) as caught:
        parsed('[options]\nhop-limit = 0\n[spot]\naction = "x"\n[paths]\n"x" = 1')
    assert len(caught.value.diagnostics) == 3


def source(*notices: Notice) -> MockSource:
    return MockSource(Mock(example_facts(), notices=notices), BEGAN)


def test_a_spot_interruption_shows_at_its_time_and_gives_two_minutes() -> None:
    served = source(Notice("spot", "stop", 30))
    assert served.facts(NOON + 29.9).spot_action is None
    assert served.facts(NOON + 30).spot_action == SpotAction("stop", datetime(2026, 3, 1, 12, 2, 30, tzinfo=UTC))


def test_notices_show_one_after_the_other_and_facts_stay_the_same_object_between_them() -> None:
    served = source(
        Notice("lifecycle", "Terminated", 20),
        Notice("rebalance", None, 10),
        Notice("event", "system-reboot", at=datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
    )
    assert served.facts(NOON) is served.facts(NOON + 9)
    ten = served.facts(NOON + 10)
    assert (ten.rebalance, ten.target_lifecycle_state) == (datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC), None)
    assert served.facts(NOON + 20).target_lifecycle_state == "Terminated"
    [event] = served.facts(NOON + 60).scheduled_events
    assert (event.code, event.not_before) == ("system-reboot", datetime(2026, 3, 15, 12, 1, tzinfo=UTC))


def test_an_event_that_is_over_is_in_the_history_with_what_became_of_it() -> None:
    text = '[[maintenance]]\ncode = "instance-stop"\nstate = "canceled"\nnot-before = 2026-01-21T09:00:43Z'
    facts = MockSource(Mock(example_facts(), notices=parsed(text).notices), BEGAN).facts(NOON)
    assert facts.scheduled_events == ()
    assert facts.past_events[0].description.startswith("[Canceled] ")


def test_credentials_of_a_file_are_never_expired_unless_it_says_when() -> None:
    text = '[roles.web]\naccess-key-id = "A"\nsecret-access-key = "s"\nsession-token = "t"'
    mock = Mock(example_facts(role="web"), credentials=parsed(text).credentials)
    for now in (NOON, NOON + 10**9):
        served = MockSource(mock, BEGAN).role_credentials("2.0", now)
        assert served.access_key_id == "A"
        assert served.expires is not None
        assert served.expires.timestamp() > now + 300
