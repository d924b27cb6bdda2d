"""The one rule, row by row. The rows are data in tests/cases/precedence: add the case that bit you there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imdsctl.domain.options import AWS_NAMES, AccountDefaults, MetadataOptions
from imdsctl.domain.precedence import BUILT_IN, Layer, image_options, resolve

CASES = Path(__file__).parents[2] / "cases" / "precedence"
FIELDS = {aws: name for name, aws in AWS_NAMES.items()}


def rows() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(CASES.glob("*.json"))
        for case in json.loads(path.read_text())["cases"]
    ]


@pytest.mark.parametrize("case", rows())
def test_a_launch_gets_what_the_table_says(case: dict[str, Any]) -> None:
    template = MetadataOptions.from_aws(case["template"]) if "template" in case else None
    resolution = resolve(
        MetadataOptions.from_aws(case["launch"]),
        AccountDefaults.from_aws(case["account"]),
        image_options(case["image"]),
        launch_template=template,
    )
    for option, (value, layer) in case["gets"].items():
        decided = getattr(resolution, FIELDS[option])
        assert (option, decided.value, str(decided.layer)) == (option, value, layer)
    if "refused" in case:
        assert resolution.refused is case["refused"]


def test_every_case_file_says_where_its_rows_come_from() -> None:
    for path in CASES.glob("*.json"):
        document = json.loads(path.read_text())
        assert document["topic"], path
        assert document["source"], path


def test_the_launch_parameters_are_the_strongest_layer_for_every_option() -> None:
    loud = MetadataOptions.from_aws(
        {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 7,
            "HttpEndpoint": "disabled",
            "HttpProtocolIpv6": "enabled",
            "InstanceMetadataTags": "enabled",
        }
    )
    resolution = resolve(loud, AccountDefaults(), image_options("v2.0"), launch_template=BUILT_IN)
    assert resolution.options == loud
    assert {getattr(resolution, name).layer for name in AWS_NAMES} == {Layer.LAUNCH}


def test_a_built_in_layer_that_does_not_speak_for_an_option_is_a_bug() -> None:
    with pytest.raises(ValueError, match="HttpTokens"):
        resolve(MetadataOptions(), AccountDefaults(), MetadataOptions(), MetadataOptions())


def test_an_image_value_that_aws_does_not_have_says_nothing() -> None:
    assert image_options("v1.0") == MetadataOptions()
