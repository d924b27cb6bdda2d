"""A host with a metadata service, made of network namespaces: run as a program, it leaves nothing behind.

    imds_bed.py serve           makes the bed, prints where its parts are, serves until its standard input ends
    imds_bed.py enter PATH CMD  runs a command in a network namespace
    imds_bed.py without N CMD   runs a command that can never have capabilities N,N,...
    imds_bed.py load RATE N     makes N calls, RATE a second, half by IMDSv1; prints what it made

The bed is service - host - container, each a namespace, joined by veth pairs; the host forwards. The service answers as
EC2's does as far as `trace` can tell: a token by PUT (which leaves with hop limit 1), 401 below /required without one.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

SERVICE = ((socket.AF_INET, "169.254.169.254"), (socket.AF_INET6, "fd00:ec2::254"))
NEW_NETWORK = 0x40000000
DROP_FROM_BOUNDING_SET = 24
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(namespace: int) -> None:
    checked(LIBC.setns(namespace, NEW_NETWORK))


def answer(connection: socket.socket, family: int) -> None:
    with connection:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 8192:
            more = connection.recv(4096)
            if not more:
                return
            head += more
        status = "200 OK"
        if head.startswith(b"PUT "):
            level, option = (
                (socket.IPPROTO_IP, socket.IP_TTL)
                if family == socket.AF_INET
                else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            )
            connection.setsockopt(level, option, 1)
        elif head.startswith(b"GET /required") and b"x-aws-ec2-metadata-token:" not in head.lower():
            status = "401 Unauthorized"
        elif not head.startswith(b"GET "):
            status = "400 Bad Request"
        body = b"AQAEAtoken"
        connection.sendall(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )


def listen(listener: socket.socket, family: int) -> None:
    while True:
        try:
            connection, _ = listener.accept()
            answer(connection, family)
        except OSError:  # a client that went away
            continue


def serve() -> None:
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
    enter(spaces["service"])
    with IPRoute() as route:
        route.addr("add", index=1, address="169.254.169.254", prefixlen=32)
        route.addr("add", index=1, address="fd00:ec2::254", prefixlen=128, flags=0x02)
    for family, address in SERVICE:
        listener = socket.create_server((address, 80), family=family, backlog=1024)
        threading.Thread(target=listen, args=(listener, family), daemon=True).start()
    print(json.dumps({"pid": pid, **spaces}), flush=True)
    sys.stdin.buffer.read()


def load(rate: int, calls: int) -> None:
    token = b"X-aws-ec2-metadata-token: AQAEAtoken\r\n"
    requests = [
        b"GET /latest/meta-data/%d HTTP/1.1\r\nHost: 169.254.169.254\r\n%b\r\n" % (number % 100, token * (number % 2))
        for number in range(200)
    ]
    began = time.perf_counter()
    failed = 0
    for number in range(calls):
        due = began + number / rate
        # As punctual as the machine allows: what could not be sent in time is sent at once.
        while (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        with socket.socket() as connection:
            try:
                connection.connect(("169.254.169.254", 80))
                connection.sendall(requests[number % len(requests)])
                while connection.recv(4096):
                    pass
            except OSError:
                failed += 1
    seconds = time.perf_counter() - began
    print(json.dumps({"calls": calls, "failed": failed, "seconds": seconds}), flush=True)


def main(mode: str, *arguments: str) -> None:
    if mode == "serve":
        serve()
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
