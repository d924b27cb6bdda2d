"""The intent file: what it may say, and how its mistakes are told."""

from __future__ import annotations

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.intent import Images, Intent, Wanted, parse_document, parse_intent
from imdsctl.domain.observations import Target
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch


def problems(text: str) -> list[tuple[str | None, str]]:
    with pytest.raises(DiagnosticError) as caught:
        parse_intent(text, "fleet.toml")
    assert caught.value.exit_code == 2
    return [(each.subject, each.summary) for each in caught.value.diagnostics]


def test_a_file_that_says_nothing_is_the_built_in_intent() -> None:
    assert parse_intent("version = 1") == Intent()


def test_the_built_in_intent_requires_v2_everywhere_and_enforces_it() -> None:
    built_in = Intent()
    assert built_in.region_defaults == Wanted(MetadataOptions(http_tokens=HttpTokens.REQUIRED), 2)
    assert built_in.instances.options == built_in.launch_templates.options
    assert built_in.instances.options == MetadataOptions(http_tokens=HttpTokens.REQUIRED)
    assert built_in.enforce
    assert built_in.images is Images.LEAVE


def test_everything_can_be_said() -> None:
    intent = parse_intent(
        """
        version = 1
        enforce = false
        [region-defaults]
        http-tokens = "leave"
        hop-limit-at-least = 3
        [instances]
        http-endpoint = "disabled"
        instance-metadata-tags = "disabled"
        [launch-templates]
        explicit = true
        [images]
        imds-support = "v2.0"
        [containers]
        hop-limit-at-least = "leave"
        [exclude]
        accounts = ["111122223333"]
        regions = ["eu-west-1"]
        resources = ["i-0123456789abcdef0"]
        """
    )
    assert not intent.enforce
    assert intent.region_defaults == Wanted(MetadataOptions(), 3)
    assert intent.instances.options.http_endpoint is Switch.DISABLED
    assert intent.instances.options.http_tokens is HttpTokens.REQUIRED
    assert intent.explicit_templates
    assert intent.images is Images.V2
    assert intent.container_hop_limit_at_least is None
    assert intent.excludes(Target("111122223333", "us-east-1"))
    assert intent.excludes(Target("999988887777", "eu-west-1"))
    assert not intent.excludes(Target("999988887777", "us-east-1"))
    assert parse_document(intent.to_plain()) == intent


def test_all_problems_are_reported_together_with_their_lines() -> None:
    assert problems(
        """version = 1
enforce = "yes"
colour = "red"

[instances]
http-tokens = "require"
hop-limit-at-least = 65
htp-endpoint = "disabled"

[exclude]
accounts = ["12"]
regions = "eu-west-1"
"""
    ) == [
        ("fleet.toml:2", "`enforce` is `yes`"),
        ("fleet.toml:3", "`colour` is not known here"),
        ("fleet.toml:6", "`http-tokens` is `require`"),
        ("fleet.toml:7", "`hop-limit-at-least` is `65`"),
        ("fleet.toml:8", "`htp-endpoint` is not known here"),
        ("fleet.toml:11", "`12` in `accounts` is not valid"),
        ("fleet.toml:12", "`regions` has to be a list"),
    ]


@pytest.mark.parametrize("wish", ['http-tokens = "optional"', 'http-endpoint = "enabled"'])
def test_opening_what_is_closed_cannot_be_wished_for(wish: str) -> None:
    assert problems(f"version = 1\n[instances]\n{wish}")[0][0] == "fleet.toml:3"


@pytest.mark.parametrize(
    ("text", "place"),
    [("version = ", "fleet.toml:1"), ("version = 1\n[instances\n", "fleet.toml:2"), ("=", "fleet.toml:1")],
)
def test_a_file_that_is_not_toml_names_the_line(text: str, place: str) -> None:
    assert problems(text)[0][0] == place


@pytest.mark.parametrize("version", ["", "version = 2", "version = true", 'version = "1"'])
def test_a_version_that_is_missing_or_unknown_is_refused(version: str) -> None:
    assert "version" in problems(version)[0][1]


def test_a_value_where_a_table_belongs_is_refused() -> None:
    assert problems("version = 1\ninstances = 3") == [("fleet.toml:2", "`instances` has to be a table")]
