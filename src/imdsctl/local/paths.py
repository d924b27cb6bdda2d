"""Where a running local AWS answers questions that are no AWS API's; AWS has no such paths."""

from __future__ import annotations

STATUS_PATH = "/_imdsctl/status"
"""Where a running server says who it is."""
CONTROL_PATH = "/_imdsctl/metadata/"
CONTROL_HEADER = "x-imdsctl-control"
"""Carries the server's control key. A header of one's own makes a browser ask before it sends, and it gets no answer
that would let it."""
