"""The intent file on disk, as somebody writes it while a command goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdsctl.adapters.intent_file import IntentFollowed
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.intent import Intent


def test_a_file_is_followed_as_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "i.toml"
    file.write_text("version = 1\n")
    followed = IntentFollowed(file)
    assert followed() == (Intent(), str(file))
    file.write_text("version = 1\nenforce = false\n")
    assert followed() == (Intent(enforce=False), str(file))
    file.write_text("version = 1\nenforce = perhaps\n")
    for _ in range(2):
        with pytest.raises(DiagnosticError, match="intent-syntax"):
            followed()


def test_a_file_that_appears_here_counts_and_one_that_goes_away_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    followed = IntentFollowed(None)
    assert followed() == (Intent(), "")
    Path("imdsctl.toml").write_text("version = 1\nenforce = false\n")
    assert followed() == (Intent(enforce=False), "imdsctl.toml")
    Path("imdsctl.toml").unlink()
    with pytest.raises(DiagnosticError, match="intent-unreadable"):
        followed()
