"""`imdsctl demo --attack`: the story is told by what really came back, and each refusal names its layer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    folder: Path = tmp_path_factory.mktemp("attack")
    return subprocess.run(
        [sys.executable, "-m", "imdsctl", "demo", "--attack"],
        env={**os.environ, "AWS_PROFILE": "production", "TMPDIR": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_ends_well(story: subprocess.CompletedProcess[str]) -> None:
    assert story.returncode == 0, story.stdout + story.stderr
    assert "Traceback" not in story.stderr


def test_a_plain_get_gives_the_credentials_away_before_and_nothing_after(
    story: subprocess.CompletedProcess[str],
) -> None:
    answers = re.findall(r"^  GET /latest/meta-data/iam/security-credentials/ -> (\w+)", story.stdout, re.MULTILINE)
    assert answers[:2] == ["200", "401"]
    assert "ec2RoleDelivery 1.0" in story.stdout


def test_each_attack_is_refused_by_its_own_layer(story: subprocess.CompletedProcess[str]) -> None:
    table = story.stdout[story.stdout.index("REFUSED BY") :]
    assert re.search(r"GET through the preview +credentials +401 +HttpTokens=required", table)
    assert re.search(r"PUT through a proxy +- +403 .*X-Forwarded-For", table)
    if "left out: this system has no network namespaces" not in story.stdout:
        assert re.search(r"PUT from a container +- +no answer +hop limit 1", table)
    assert re.search(r"PUT on the instance +- +credentials", table)
    assert re.search(r"the credentials of step 2 +good +AccessDenied +the SCP", table)
    assert "explicit deny in a service control policy" in story.stdout
