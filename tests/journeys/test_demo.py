"""`imdsctl demo`: the newcomer's first command, whole, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    hostile = {
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "AKIAREALACCOUNT00000",
        "AWS_SECRET_ACCESS_KEY": "a key of the user's own",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "TMPDIR": str(folder),
    }
    return subprocess.run(
        [sys.executable, "-m", "imdsctl", "demo", "--accounts", "8", "--instances", "3"],
        env={**os.environ, **hostile},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_ends_well_whatever_the_users_own_aws_settings_are(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Traceback" not in demo.stderr


def test_it_goes_through_every_step_in_order(demo: subprocess.CompletedProcess[str]) -> None:
    commands = re.findall(r"^\$ imdsctl (\w+)", demo.stdout, re.MULTILINE)
    assert [each for each in commands if each != "explain"][:4] == ["local", "scan", "plan", "apply"]
    assert commands.count("verify") >= 1


def test_the_gate_of_the_second_wave_holds_because_a_real_process_uses_imdsv1(
    demo: subprocess.CompletedProcess[str],
) -> None:
    [instance] = re.findall(r"^(i-[0-9a-f]+)    <- its first answer", demo.stdout, re.MULTILINE)
    told = [
        "Wave sandbox: Enforcement",
        "Wave shared, no IMDSv1 calls: failed; 1 instance used IMDSv1",
        "Wave shared, no IMDSv1 calls: passed",
        "Wave shared: Enforcement",
        "Wave production: Enforcement",
    ]
    places = [demo.stderr.find(each) for each in told]
    assert -1 not in places, demo.stderr
    assert places == sorted(places)
    assert re.search(rf"/{instance}: MetadataNoToken \d+, last ", demo.stderr), demo.stderr
    first, second = demo.stdout.split("$ imdsctl apply plan")[1:]
    assert "held back" in first.partition("# The gate")[0]
    assert f'match = {{ resource = ["{instance}"] }}' in first
    assert "held back" not in second.partition("# 6.")[0]
    assert re.search(rf"old agent on {instance} \(process \d+\) still gets its answers", demo.stdout)


def test_it_ends_with_every_region_enforced_and_nothing_exposed_but_the_exception(
    demo: subprocess.CompletedProcess[str],
) -> None:
    total = re.search(r"^\s+all\s+(\d+) -> (\d+) of (\d+)\s+(\d+) -> (\d+)\s+(\d+) -> (\d+)", demo.stdout, re.MULTILINE)
    assert total, demo.stdout
    before, after, regions, instances, instances_left, templates, templates_left = map(int, total.groups())
    assert before < after == regions
    assert regions % 17 == 0
    assert instances > 1 == instances_left
    assert templates > 0 == templates_left


def test_what_is_proven_includes_other_services(demo: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"^ +Other services +\d+ enforced$", demo.stdout, re.MULTILINE)
    assert re.search(r"^Verified: \d+ targets", demo.stdout, re.MULTILINE)
    assert "not proven: the settings of other services" not in demo.stdout


def test_an_account_that_refuses_the_role_stays_unknown_to_the_end(demo: subprocess.CompletedProcess[str]) -> None:
    assert "Not verified" in demo.stdout
    assert re.search(r"unknown \(AccessDenied\)", demo.stdout)


def test_it_leaves_nothing_running_and_nothing_behind(demo: subprocess.CompletedProcess[str], folder: Path) -> None:
    port = re.search(r"local AWS at http://127\.0\.0\.1:(\d+)", demo.stdout + demo.stderr)
    assert port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port.group(1)))) != 0
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_ctrl_c_while_the_local_aws_starts_leaves_nothing_running(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "imdsctl", "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/xdg_runtime_dir/imdsctl/server-*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    demo.send_signal(signal.SIGINT)  # to this process alone, unlike a terminal, which sends it to all
    assert demo.wait(60) == 130
    assert running_with(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def running_with(text: str) -> list[int]:
    """The processes whose environment names `text`."""
    found = []
    for each in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in each.read_bytes():
                found.append(int(each.parent.name))
        except OSError:
            continue
    return found
