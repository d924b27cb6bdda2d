"""Text from elsewhere, made fit to be shown. Names, tags and messages are written by whoever owns the account.

A name may hold an escape sequence that clears a terminal, a line break that forges a line of a table, or a mark that
turns the direction of what follows (https://trojansource.codes). Shown here is always what is there, spelt out.
"""

from __future__ import annotations

import re

_MARKS = (
    "\x7f-\x9f"  # delete and the control characters C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, embeddings, overrides, isolates
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # line and paragraph separators, byte order mark, interlinear marks
    "\ufffe\uffff"  # no characters: no XML takes them
    "\ud800-\udfff"  # lone surrogates: no terminal and no file takes them
)
_HOSTILE = re.compile(f"[\x00-\x1f{_MARKS}]")
_HOSTILE_IN_LINES = re.compile(
    r"(?!\x1b\[(?:0|1|2|31|32|33|36)m|\r\n)"  # the colours of `views.text`, and ends of lines
    f"[\x00-\x08\x0b-\x1f{_MARKS}]"
)
ERASED = "\r\x1b[K"
"""What a line begins with that is written in the place of another."""


def shown(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey: such characters are spelt `\\u001b`."""
    return _HOSTILE.sub(_spelt, text)


def _spelt(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def shown_lines(text: str) -> str:
    """`text` of ours, in lines and colours, that may have something from elsewhere in it.

    Line breaks, tabs, our colours and, at the beginning, `ERASED` pass; everything else that a terminal would obey is
    spelt out. JSON stays the same JSON: there such characters stand in strings only.
    """
    if text.isascii() and text.isprintable():
        return text
    if text.startswith(ERASED):
        return ERASED + _HOSTILE_IN_LINES.sub(_spelt, text.removeprefix(ERASED))
    return _HOSTILE_IN_LINES.sub(_spelt, text)
