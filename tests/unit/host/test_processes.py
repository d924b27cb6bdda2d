"""Where a process runs, from its cgroups as each runtime names them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from imdsctl.host.processes import Place, Process, foreign_namespace, parent_of, place_of, read_process

if sys.platform != "linux":
    pytest.skip("/proc is Linux's", allow_module_level=True)

ID = "3f4a" * 16
SHORT = ID[:12]
POD = "0a1b2c3d-1111-2222-3333-444455556666"


@pytest.mark.parametrize(
    ("cgroups", "place"),
    [
        ("0::/", Place()),
        ("0::/init.scope", Place(unit="init.scope")),
        ("0::/system.slice/nginx.service", Place(unit="nginx.service")),
        ("0::/system.slice/nginx.service/worker", Place(unit="nginx.service")),
        ("0::/user.slice/user-1000.slice/session-3.scope", Place(unit="session-3.scope")),
        (r"0::/system.slice/my\x2dapp.service", Place(unit="my-app.service")),
        ("12:pids:/system.slice/a.service\n1:name=systemd:/system.slice/a.service\n0::/", Place(unit="a.service")),
        (f"0::/system.slice/docker-{ID}.scope", Place(f"docker:{SHORT}")),
        (f"9:pids:/docker/{ID}\n0::/docker/{ID}", Place(f"docker:{SHORT}")),
        (f"0::/machine.slice/libpod-{ID}.scope/container", Place(f"podman:{SHORT}")),
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
            Place(f"podman:{SHORT}", unit="user@1000.service"),
        ),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice/"
            f"cri-containerd-{ID}.scope",
            Place(f"containerd:{SHORT}", POD),
        ),
        (f"0::/kubepods/besteffort/pod{POD}/{ID}", Place(f"kubernetes:{SHORT}", POD)),
        (f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{ID}.scope", Place(f"cri-o:{SHORT}", POD)),
        (f"0::/system.slice/containerd.service/kubepods-pod{POD}.slice:cri-containerd:{ID}",
         Place(f"containerd:{SHORT}", POD, "containerd.service")),
        (f"0::/system.slice/nerdctl-{ID}.scope", Place(f"containerd:{SHORT}")),
        (f"9:pids:/ecs/task-1/{ID}", Place(f"ecs:{SHORT}")),
        (f"9:pids:/ecs/{ID[:32]}-1234567890", Place(f"ecs:{ID[:32]}-1234567890")),
        ("0::/lxc.payload.web", Place("lxc:web")),
        (f"0::/somebody/{ID}", Place(f"container:{SHORT}")),
        ("0::/evil\x1b[2J.service", Place(unit="evil\N{REPLACEMENT CHARACTER}[2J.service")),
        ("", Place()),
    ],
)  # fmt: skip
def test_containers_pods_and_units_are_named(cgroups: str, place: Place) -> None:
    assert place_of(cgroups) == place


def test_this_process_is_itself() -> None:
    process = read_process(os.getpid())
    assert isinstance(process, Process)
    assert (process.pid, process.uid) == (os.getpid(), os.geteuid())
    assert process.executable == os.path.realpath("/proc/self/exe")[:160]
    assert process.parents[0][0] == os.getppid() == parent_of(os.getpid())
    assert process.command
    assert process.started


def test_a_process_that_is_gone_is_nobody() -> None:
    assert read_process(2**22 + 1) is None
    assert parent_of(2**22 + 1) is None


@pytest.mark.parametrize(
    ("namespaces", "foreign"),
    [
        ({"pid": "pid:[4026531836]", "cgroup": "cgroup:[4026531835]"}, None),
        ({"pid": "pid:[4026532200]", "cgroup": "cgroup:[4026531835]"}, "process"),
        ({"pid": "pid:[4026531836]", "cgroup": "cgroup:[4026532300]"}, "cgroup"),
        ({"pid": "pid:[4026531836]"}, "cgroup"),
        ({}, "process"),
    ],
)
def test_a_container_is_not_the_host(tmp_path: Path, namespaces: dict[str, str], foreign: str | None) -> None:
    home = tmp_path / "self" / "ns"
    home.mkdir(parents=True)
    for name, number in namespaces.items():
        (home / name).symlink_to(number)
    assert foreign_namespace(tmp_path) == foreign
