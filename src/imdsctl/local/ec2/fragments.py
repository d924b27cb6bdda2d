"""The XML of instances that is kept because somebody may ask again: as much as a budget allows, the oldest goes first.

An instance is some 1.4 KiB of state, and four times that as XML; a fleet that was described once must not grow fivefold
for it. What is dropped is written anew when it is asked for: no answer depends on what is kept.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

FRAGMENTS_BYTES_MAX = 256 * 1024 * 1024
"""Some 50,000 instances, wherever they are."""


class Shown(Protocol):
    """Something that has an XML, if it is kept."""

    fragment: bytes | None


class Fragments:
    """Keeps fragments at their owners. An owner that changes drops its own; its bytes count until their turn comes."""

    def __init__(self, bytes_max: int = FRAGMENTS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: deque[tuple[Shown, bytes]] = deque()

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._bytes

    def keep(self, owner: Shown, fragment: bytes) -> None:
        """Keep the XML of an owner, and drop what was kept first if it becomes too much."""
        owner.fragment = fragment
        self._kept.append((owner, fragment))
        self._bytes += len(fragment)
        while self._bytes > self._bytes_max:
            first, dropped = self._kept.popleft()
            self._bytes -= len(dropped)
            if first.fragment is dropped:
                first.fragment = None
