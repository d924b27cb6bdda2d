"""Tables of requests: what is misspelt or stands in no column is named, for a test that tests nothing must not pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdsctl.adapters.request_table import read_requests
from imdsctl.domain.diagnostics import DiagnosticError

BASE = {"action": "RunInstances", "region": "eu-west-1"}


def read(tmp_path: Path, text: str, name: str = "requests.csv") -> tuple[list[object], list[str]]:
    (tmp_path / name).write_text(text)
    rows, problems = read_requests(tmp_path / name, BASE, {})
    return [dict(each.asked.parameters) for each in rows], [each.summary for each in problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "MetadataOptions.HttpToken\nrequired\n",
            "`MetadataOptions.HttpToken` is no parameter of RunInstances: write `MetadataOptions.HttpTokens`",
        ),
        ("Expect,ImageId\nallowed,ami-1\n", "`Expect` is no parameter of RunInstances: write `expect`"),
        ("SecurityGroupIds\nsg-1\n", "`SecurityGroupIds` of RunInstances is a list: write the table as JSON"),
        ("MetadataOptions\nrequired\n", "`MetadataOptions` is an object: write `MetadataOptions.HttpTokens`"),
        ("image.ImdsSupport\nv3\n", "`image.ImdsSupport` is `v3`: it is `v2.0`, or left out"),
        (
            "default.Tokens\nrequired\n",
            "`default.Tokens` is no Region default: use one of HttpTokens, HttpPutResponseHopLimit, HttpEndpoint, "
            "InstanceMetadataTags, HttpTokensEnforced",
        ),
        (
            "action,HttpTokens\nModifyInstanceMetadataOptions,Required\n",
            "`HttpTokens` is `Required`: use `optional` or `required`",
        ),
    ],
)
def test_what_no_call_has_is_no_request(text: str, problem: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == ([], [problem])


def test_columns_joined_by_semicolons_are_not_one_parameter(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, "action;MetadataOptions.HttpTokens;expect\nRunInstances;required;denied\n")
    assert rows == []
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it holds no request"),
        ("action,expect\n", "it holds no request"),
        ("[]", "it holds no request"),
        ("ImageId,ImageId\nami-1,ami-2\n", "the column `ImageId` is there twice"),
        ("action\nRunInstances,allowed\n", "more cells than the 1 columns of the header"),
    ],
)
def test_a_table_that_tests_nothing_does_not_pass(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        read(tmp_path, text)
    assert caught.value.diagnostics[0].summary == why


def test_lines_of_blanks_and_values_that_are_null_say_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "action,ImageId\n , \nRunInstances,ami-1\n") == ([{"ImageId": "ami-1"}], [])
    rows, problems = read(tmp_path, '[{"LaunchTemplate": null, "ImageId": "ami-1"}]', "requests.json")
    assert (len(rows), problems) == (1, [])
