"""Which ports `--network host-loopback` mirrors, from the text of /proc/net/tcp and tcp6."""

from __future__ import annotations

import sys

import pytest

from imdsctl.host.loopback import listening

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the cases are those of a little-endian machine")

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ANY6, ONE6 = "0" * 32, "0" * 24 + "01000000"
MAPPED = "0" * 16 + "FFFF0000" + "0100007F"
FOREIGN6 = "000080FE00000000FF005450B6AD1DFE"


def entry(address: str, port: int, state: str = "0A") -> str:
    return f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 1 1 0\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (entry("0100007F", 8080), [("127.0.0.1", 8080)]),
        (entry("3500007F", 53), [("127.0.0.53", 53)]),
        (entry("00000000", 22), [("127.0.0.1", 22)]),
        (entry("0A01A8C0", 22), []),
        (entry("0100007F", 40000, "01"), []),
        (entry(ONE6, 8080), [("::1", 8080)]),
        (entry(ANY6, 8080), [("::1", 8080), ("127.0.0.1", 8080)]),
        (entry(MAPPED, 9000), [("127.0.0.1", 9000)]),
        (entry(FOREIGN6, 22), []),
        ("\n", []),
    ],
)
def test_what_listens_on_loopback(line: str, expected: list[tuple[str, int]]) -> None:
    assert list(listening(HEAD + line)) == expected
