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
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from imdsctl.host.netlink import Network
from imdsctl.host.syscalls import NEW_NETWORK, end_with_parent, enter_network, unshare

SERVICE = ("169.254.169.254:80", "[fd00:ec2::254]:80")
LOOPBACK = 1
DROP_FROM_BOUNDING_SET = 24
NETLINK_NETFILTER, NFTABLES = 12, 10
REQUEST, ACKNOWLEDGE, CREATE, NESTED = 0x1, 0x4, 0x400, 0x8000
NEW_TABLE, NEW_CHAIN, NEW_RULE = 0xA00, 0xA03, 0xA06
POST_ROUTING, SOURCE_NAT_PRIORITY = 4, 100


def translate() -> bool:
    """Masquerade what leaves this namespace over IPv4; False: this kernel has no nftables with NAT.

    By nfnetlink (Linux, include/uapi/linux/netfilter/nf_tables.h): one batch with a table, a chain and a rule.
    """

    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    def message(kind: int, flags: int, family: int, subsystem: int, body: bytes = b"") -> bytes:
        head = struct.pack("=IHHII", 20 + len(body), kind, flags | REQUEST, 1, 0)
        return head + struct.pack("!BBH", family, 0, subsystem) + body

    table, chain = b"bed\0", b"out\0"
    hook = attribute(1, struct.pack("!I", POST_ROUTING)) + attribute(2, struct.pack("!I", SOURCE_NAT_PRIORITY))
    masquerade = attribute(1 | NESTED, attribute(1, b"masq\0") + attribute(2 | NESTED, b""))
    bodies = (
        (NEW_TABLE, attribute(1, table)),
        (NEW_CHAIN, attribute(1, table) + attribute(3, chain) + attribute(4 | NESTED, hook) + attribute(7, b"nat\0")),
        (NEW_RULE, attribute(1, table) + attribute(2, chain) + attribute(4 | NESTED, masquerade)),
    )
    batch = [message(kind, CREATE | ACKNOWLEDGE, socket.AF_INET, 0, body) for kind, body in bodies]
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netfilter:
            netfilter.settimeout(5)
            netfilter.send(b"".join([message(16, 0, 0, NFTABLES), *batch, message(17, 0, 0, NFTABLES)]))
            answers = b""
            while len(answers) < 36 * len(batch):  # an acknowledgement repeats the head that it answers
                answers += netfilter.recv(8192)
                if struct.unpack_from("=i", answers, 16)[0]:
                    return False
    except OSError:
        return False
    return all(struct.unpack_from("=i", answers, at + 16)[0] == 0 for at in range(0, len(answers), 36))


@contextmanager
def inside(namespace: int) -> Iterator[Network]:
    """Go into a namespace, and stay there."""
    enter_network(namespace)
    network = Network()
    try:
        yield network
    finally:
        network.close()


def serve(log: str, hops: str) -> None:
    spaces = {}
    for name in ("service", "host", "container"):
        unshare(NEW_NETWORK)
        spaces[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def link(here: str, ours: tuple[str, str], there: str, theirs: tuple[str, str]) -> None:
        """A veth pair with an IPv4 and an IPv6 address at each end."""
        with inside(spaces[here]) as network:
            network.add_veth(f"to-{there}", f"to-{here}", spaces[there])
        for space, name, addresses in ((here, f"to-{there}", ours), (there, f"to-{here}", theirs)):
            with inside(spaces[space]) as network:
                index = socket.if_nametoindex(name)
                network.up(index)
                for address, prefix in zip(addresses, (24, 64), strict=True):
                    network.add_address(index, ip_address(address), prefix)

    link("service", ("10.1.0.1", "fd01::1"), "host", ("10.1.0.2", "fd01::2"))
    link("host", ("10.2.0.1", "fd02::1"), "container", ("10.2.0.2", "fd02::2"))
    gateways = {
        "service": ("10.1.0.2", "fd01::2"),
        "host": ("10.1.0.1", "fd01::1"),
        "container": ("10.2.0.1", "fd02::1"),
    }
    for name, both in gateways.items():
        with inside(spaces[name]) as network:
            network.up(LOOPBACK)
            for gateway in both:
                network.add_route(None, ip_address(gateway))
    enter_network(spaces["host"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    translated = translate()
    with inside(spaces["service"]) as network:
        network.add_address(LOOPBACK, ip_address("169.254.169.254"), 32)
        network.add_address(LOOPBACK, ip_address("fd00:ec2::254"), 128)
    binds = [argument for address in SERVICE for argument in ("--bind", address)]
    with open(log, "wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "imdsctl", "imds", "serve", *binds, "--hop-limit", hops, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            preexec_fn=end_with_parent,
        )
    assert service.stderr is not None
    if not service.stderr.readline().startswith(b"instance metadata of"):
        raise SystemExit("the metadata service did not start")
    print(json.dumps({"pid": os.getpid(), "translated": translated, "spaces": spaces}), flush=True)
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
        enter_network(os.open(arguments[0], os.O_RDONLY))
        os.execvp(arguments[1], arguments[1:])
    elif mode == "without":
        for capability in arguments[0].split(","):
            if ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, int(capability), 0, 0, 0):
                raise SystemExit(f"capability {capability} cannot be dropped")
        os.execvp(arguments[1], arguments[1:])
    elif mode == "load":
        load(int(arguments[0]), int(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
