"""`imdsctl policy generate` at the command line: an exemption that exempts nobody is refused, with what was meant."""

from __future__ import annotations

from typing import NoReturn

import pytest

from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies


def nothing(*_: object) -> NoReturn:
    raise AssertionError("guardrails are made without asking")


NOTHING = Dependencies(aws=nothing, scans=nothing, now=nothing, new_id=nothing)


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        # aws:PrincipalArn of a session is its role's ARN: an exemption of the session's own would exempt nobody.
        ("arn:aws:sts::111122223333:assumed-role/ci/build-7", "arn:aws:iam::111122223333:role/ci"),
        ("arn:aws:iam::*:roles/ci", "arn:aws:iam::*:role/ci"),
        ("ci", "arn:aws:iam::*:role/ci"),
        ("arn:aws:iam::*:instance-profile/ci", "arn:aws:iam::*:role/imdsctl"),
    ],
)
def test_an_exemption_of_nobody_is_refused(named: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "generate", "scp", "--exempt-role", named], NOTHING) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"`{named}` is not the ARN of a role or user" in err
    assert f"write `{meant}`" in err


@pytest.mark.parametrize("named", ["arn:aws:iam::*:role/ci", "arn:aws-us-gov:iam::111122223333:role/team/*"])
def test_a_role_is_exempt_by_its_own_arn(named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "generate", "scp", "--exempt-role", named], NOTHING) == 0
    assert named in capsys.readouterr().out
