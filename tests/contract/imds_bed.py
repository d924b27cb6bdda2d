"""A host with a metadata service, made of network namespaces: run as a program, it leaves nothing behind.

    imds_bed.py serve LOG HOPS  makes the bed, prints where its parts are, serves until its standard input ends
    imds_bed.py enter PATH CMD  runs a command in a network namespace
    imds_bed.py without N CMD   runs a command that can never have capabilities N,N,...
    imds_bed.py load RATE N     makes N calls, RATE a second, half by IMDSv2; prints what it made

The bed is service - host - container, each a namespace, joined by veth pairs; the host forwards, and over IPv4 it
translates the container's address into its own, as container engines do. The service is `imdsctl imds serve` with
tokens optional and hop limit HOPS; its own log of requests goes to the file LOG.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SERVICE = ("169.254.169.254:80", "[fd00:ec2::254]:80")
NEW_NETWORK = 0x40000000
SIGNAL_WHEN_PARENT_DIES, DROP_FROM_BOUNDING_SET = 1, 24
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(namespace: int) -> None:
    checked(LIBC.setns(namespace, NEW_NETWORK))


def translate() -> bool:
    """Masquerade what leaves this namespace over IPv4; False: this kernel has no nftables with NAT."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nftsocket import NFPROTO_IPV4
    from pyroute2.nftables.expressions import genex
    from pyroute2.nftables.main import NFTables

    try:
        with NFTables(nfgen_family=NFPROTO_IPV4) as tables:
            tables.table("add", name="bed")
            tables.chain("add", table="bed", name="out", hook="postrouting", type="nat", policy=1)
            tables.rule("add", table="bed", chain="out", expressions=[(genex("masq", {}),)])
    except NetlinkError:
        return False
    return True


def serve(log: str, hops: str) -> None:
    from pyroute2 import IPRoute

    spaces = {}
    for name in ("service", "host", "container"):
        checked(LIBC.unshare(NEW_NETWORK))
        spaces[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    pid = os.getpid()

    def path(name: str) -> str:
        return f"/proc/{pid}/fd/{spaces[name]}"

    def link(here: str, ours: tuple[str, str], there: str, theirs: tuple[str, str]) -> None:
        """A veth pair with an IPv4 and an IPv6 address at each end."""
        enter(spaces[here])
        with IPRoute() as route:
            route.link(
                "add", ifname=f"to-{there}", kind="veth", peer={"ifname": f"to-{here}", "net_ns_fd": path(there)}
            )
        for space, name, addresses in ((here, f"to-{there}", ours), (there, f"to-{here}", theirs)):
            enter(spaces[space])
            with IPRoute() as route:
                index = route.link_lookup(ifname=name)[0]
                route.link("set", index=index, state="up")
                route.addr("add", index=index, address=addresses[0], prefixlen=24)
                route.addr("add", index=index, address=addresses[1], prefixlen=64, flags=0x02)  # no duplicate check

    link("service", ("10.1.0.1", "fd01::1"), "host", ("10.1.0.2", "fd01::2"))
    link("host", ("10.2.0.1", "fd02::1"), "container", ("10.2.0.2", "fd02::2"))
    gateways = {
        "service": ("10.1.0.2", "fd01::2"),
        "host": ("10.1.0.1", "fd01::1"),
        "container": ("10.2.0.1", "fd02::1"),
    }
    for name, (gateway4, gateway6) in gateways.items():
        enter(spaces[name])
        with IPRoute() as route:
            route.link("set", index=1, state="up")
            route.route("add", dst="0.0.0.0/0", gateway=gateway4)
            route.route("add", dst="::/0", gateway=gateway6)
    enter(spaces["host"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    translated = translate()
    enter(spaces["service"])
    with IPRoute() as route:
        route.addr("add", index=1, address="169.254.169.254", prefixlen=32)
        route.addr("add", index=1, address="fd00:ec2::254", prefixlen=128, flags=0x02)
    binds = [argument for address in SERVICE for argument in ("--bind", address)]
    with open(log, "wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "imdsctl", "imds", "serve", *binds, "--hop-limit", hops, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: LIBC.prctl(SIGNAL_WHEN_PARENT_DIES, signal.SIGKILL, 0, 0, 0),
        )
    assert service.stderr is not None
    if not service.stderr.readline().startswith(b"instance metadata of"):
        raise SystemExit("the metadata service did not start")
    print(json.dumps({"pid": pid, "translated": translated, "spaces": spaces}), flush=True)
    sys.stdin.buffer.read()
    service.terminate()
    service.wait()


def ask(request: bytes) -> bytes:
    with socket.create_connection(("169.254.169.254", 80), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(4096):
            answer += more
    return answer


def load(rate: int, calls: int) -> None:
    put = b"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n"
    token = b"X-aws-ec2-metadata-token: %b\r\n" % ask(put).partition(b"\r\n\r\n")[2]
    get = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\n%b\r\n"
    requests = (get % b"", get % token)
    began = time.perf_counter()
    failed = 0
    for number in range(calls):
        due = began + number / rate
        # As punctual as the machine allows: what could not be sent in time is sent at once.
        while (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        try:
            ask(requests[number % 2])
        except OSError:
            failed += 1
    seconds = time.perf_counter() - began
    print(json.dumps({"calls": calls, "failed": failed, "seconds": seconds}), flush=True)


def main(mode: str, *arguments: str) -> None:
    if mode == "serve":
        serve(*arguments)
    elif mode == "enter":
        enter(os.open(arguments[0], os.O_RDONLY))
        os.execvp(arguments[1], arguments[1:])
    elif mode == "without":
        for capability in arguments[0].split(","):
            checked(LIBC.prctl(DROP_FROM_BOUNDING_SET, int(capability), 0, 0, 0))
        os.execvp(arguments[1], arguments[1:])
    elif mode == "load":
        load(int(arguments[0]), int(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
