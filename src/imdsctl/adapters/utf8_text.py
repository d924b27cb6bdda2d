"""Text out of bytes, with the place of the first byte that is none."""

from __future__ import annotations

import codecs


class NotText(ValueError):
    """The bytes are not UTF-8; its text says why, `line` and `column` (in bytes) where, both from 1."""

    def __init__(self, why: str, line: int, column: int) -> None:
        super().__init__(why)
        self.line = line
        self.column = column


def decoded(content: bytes) -> str:
    """UTF-8, with or without a byte order mark. Raises NotText."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotText("UTF-16: write it as UTF-8", 1, 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise NotText(f"byte {error.start} is not UTF-8", line, column) from None
