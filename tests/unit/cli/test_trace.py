"""The command line of `trace`: what is refused before anything is opened."""

from __future__ import annotations

import sys

import pytest

from imdsctl.bootstrap import main


@pytest.mark.parametrize("time", ["", "0", "-5", "soon", "5x", "1e3", "999999999d", "\u0665", "5 m", "nan"])
def test_a_duration_that_is_none_is_refused(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", f"--duration={time}"]) == 2
    assert "error[duration-invalid]" in capsys.readouterr().err


def test_an_interval_goes_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--interval", "5s"]) == 2
    assert "`--interval` goes with `--json`" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    assert main(["trace", f"--prometheus={port}"]) == 2


def test_elsewhere_than_on_linux_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert main(["trace"]) == 1
    said = capsys.readouterr()
    assert "error[linux-needed]" in said.err
    assert said.out == ""
