"""Single values, as text and as JSON or CBOR: each rule once, both directions.

Sources: Smithy's protocol pages (`https://smithy.io/2.0/aws/protocols/`), "Timestamp format", "Number serialization".
Decoders raise `Malformed`; they never pass on a value of the wrong type.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cbor2 import CBORTag

from imdsctl.wire.errors import Malformed, UnknownTrait, WireError
from imdsctl.wire.model import Shape

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}\Z")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z|[+-]?Infinity\Z|NaN\Z")
_ISO8601: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.,]+)?(?:Z|z|[+-][0-9:]{2,6})?\Z")
_RFC822: Final = re.compile(
    r"(?:[A-Za-z]{3}, )?([0-9]{1,2}) ([A-Za-z]{3}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)? (?:GMT|UTC)\Z"
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BITS: Final = {"byte": 8, "short": 16, "integer": 32, "long": 64}
TIMES_REMEMBERED_MAX: Final = 4096
"""What was launched together has the same time."""
_NOT_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value that is one token on the wire. `encode` raises `WireError`, `decode` raises `Malformed`.

    `plain` says that decoding changes nothing (a string as text), so that a hot loop may skip the call.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    plain: bool = False


# --- time ---------------------------------------------------------------------------------------------------------


def moment(value: object) -> datetime:
    """What boto3 takes for a time (datetime, seconds since 1970, text) as an aware datetime in UTC.

    A datetime without a zone is UTC: this layer knows no local time.
    """
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, str):
        return parse_time(value)
    return from_seconds(value)


def from_seconds(value: object) -> datetime:
    """Seconds since 1970, whole or not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Malformed("a timestamp was expected")
    try:
        return _EPOCH + timedelta(seconds=value)
    except OverflowError:
        raise Malformed(f"the timestamp {value} is out of range") from None


@lru_cache(maxsize=TIMES_REMEMBERED_MAX)
def parse_time(text: str) -> datetime:
    """ISO 8601, RFC 822 (HTTP date) or seconds since 1970 as text."""
    text = text.strip()
    try:
        if _ISO8601.match(text):
            parsed = datetime.fromisoformat(text)
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        match = _RFC822.match(text)
        if match:
            day, month, year, hour, minute, second, fraction = match.groups()
            whole = datetime(
                int(year), _MONTHS.index(month.title()) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
            return whole + timedelta(seconds=float(fraction)) if fraction else whole
        return from_seconds(_parse_float(text))
    except (ValueError, OverflowError):
        raise Malformed(f"'{text[:64]}' is not a timestamp") from None


def iso8601(value: object) -> str:
    """Seconds, with microseconds only when there are any: what AWS's SDKs send."""
    time = moment(value)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond:06d}Z" if time.microsecond else f"{time:%Y-%m-%dT%H:%M:%S}Z"


def iso8601_milliseconds(value: object) -> str:
    """`2011-07-15T23:28:33.000Z`, as EC2 writes times; microseconds are kept when there are any."""
    if value.__class__ is datetime and value.tzinfo is UTC and not value.microsecond:
        return str(value)[:19].replace(" ", "T") + ".000Z"
    time = moment(value)
    if time.microsecond % 1000:
        return iso8601(time)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def rfc822(value: object) -> str:
    """`Tue, 29 Apr 2014 18:30:38 GMT`; whole seconds, English names whatever the locale."""
    time = moment(value)
    return f"{_DAYS[time.weekday()]}, {time.day:02d} {_MONTHS[time.month - 1]} {time.year:04d} {time:%H:%M:%S} GMT"


def to_seconds(value: object) -> int | float:
    """Seconds since 1970: an integer when the time is whole."""
    time = moment(value)
    whole = (time - _EPOCH) // timedelta(seconds=1)
    return whole + time.microsecond / 1_000_000 if time.microsecond else whole


# --- what a caller may pass ---------------------------------------------------------------------------------------


def _wanted(kind: str, value: object) -> WireError:
    return WireError(f"{kind} was expected, not {type(value).__name__}")


def _check_string(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _wanted("a string", value)


def _check_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wanted("a boolean", value)


def _check_integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wanted("an integer", value)


def _check_number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise _wanted("a number", value)


def _check_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _wanted("bytes", value)


# --- text: form, XML, URI, header ---------------------------------------------------------------------------------


def _parse_boolean(text: str) -> bool:
    if text == "true":
        return True
    if text == "false":
        return False
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    raise Malformed(f"'{text[:64]}' is not a boolean, expected 'true' or 'false'")


def _parse_integer(bits: int) -> Callable[[str], int]:
    limit = 1 << (bits - 1)

    def parse(text: str) -> int:
        if _INTEGER.match(text):
            value = int(text)
            if -limit <= value < limit:
                return value
        raise Malformed(f"'{text[:64]}' is not an integer of {bits} bits")

    return parse


def _parse_float(text: str) -> float:
    if _FLOAT.match(text):
        return float(text)
    raise Malformed(f"'{text[:64]}' is not a number")


def _write_float(value: object) -> str:
    number = _check_number(value)
    special = _special(number)
    return special if special is not None else str(number)


def _special(number: float) -> str | None:
    if math.isfinite(number):
        return None
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def write_base64(value: object) -> str:
    return base64.b64encode(_check_bytes(value)).decode("ascii")


def read_base64(text: object) -> bytes:
    if isinstance(text, str):
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise Malformed("the value is not valid base64")


def _same(value: Any) -> Any:
    return value


def _times(shape: Shape, default: str, milliseconds: bool) -> Callable[[object], str]:
    match shape.timestamp_format(default):
        case "iso8601":
            return iso8601_milliseconds if milliseconds else iso8601
        case "rfc822":
            return rfc822
        case _:
            return lambda value: str(to_seconds(value))


_TEXT: Final[dict[str, Scalar]] = {
    "string": Scalar(_check_string, _same, plain=True),
    "character": Scalar(_check_string, _same, plain=True),
    "boolean": Scalar(lambda value: "true" if _check_boolean(value) else "false", _parse_boolean),
    "float": Scalar(_write_float, _parse_float),
    "double": Scalar(_write_float, _parse_float),
    "blob": Scalar(write_base64, read_base64),
    **{name: Scalar(lambda value: str(_check_integer(value)), _parse_integer(bits)) for name, bits in _BITS.items()},
}


def text_scalar(shape: Shape, timestamps: str = "iso8601", *, milliseconds: bool = False) -> Scalar:
    """The text form of a scalar shape; `timestamps` is the format of this place when the model gives none."""
    if shape.type == "timestamp":
        return Scalar(_times(shape, timestamps, milliseconds), parse_time)
    scalar = _TEXT.get(shape.type)
    if scalar is None:
        raise UnknownTrait(f"shape `{shape.name}` of type `{shape.type}` has no text form")
    return scalar


# --- JSON and CBOR ------------------------------------------------------------------------------------------------


def _take_string(value: object) -> str:
    if value.__class__ is str:
        return value
    raise Malformed("a string was expected")


def _take_boolean(value: object) -> bool:
    if value is True or value is False:
        return value
    raise Malformed("a boolean was expected")


def _take_integer(bits: int) -> Callable[[object], int]:
    limit = 1 << (bits - 1)

    def take(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value.__class__ is int and -limit <= value < limit:
            return value
        raise Malformed(f"an integer of {bits} bits was expected")

    return take


def _take_float(value: object) -> float:
    if value.__class__ is float:
        return value
    if value.__class__ is int:
        try:
            return float(value)
        except OverflowError:
            raise Malformed("the number is out of range") from None
    if isinstance(value, str) and value in _NOT_NUMBERS:
        return _NOT_NUMBERS[value]
    raise Malformed("a number was expected")


def _take_time(value: object) -> datetime:
    return parse_time(value) if isinstance(value, str) else from_seconds(value)


def _json_float(value: object) -> float | str:
    number = _check_number(value)
    special = _special(number)
    return number if special is None else special


_JSON: Final[dict[str, Scalar]] = {
    "string": Scalar(_check_string, _take_string),
    "character": Scalar(_check_string, _take_string),
    "boolean": Scalar(_check_boolean, _take_boolean),
    "float": Scalar(_json_float, _take_float),
    "double": Scalar(_json_float, _take_float),
    "blob": Scalar(write_base64, read_base64),
    **{name: Scalar(_check_integer, _take_integer(bits)) for name, bits in _BITS.items()},
}


def json_scalar(shape: Shape) -> Scalar:
    """The JSON form of a scalar shape: times are seconds since 1970 unless the model says otherwise."""
    if shape.type != "timestamp":
        return _JSON[shape.type]
    match shape.timestamp_format("unix"):
        case "iso8601":
            return Scalar(iso8601, _take_time)
        case "rfc822":
            return Scalar(rfc822, _take_time)
        case _:
            return Scalar(to_seconds, _take_time)


def _take_bytes(value: object) -> bytes:
    if value.__class__ is bytes:
        return value
    raise Malformed("a byte string was expected")


def _take_cbor_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return moment(value)
    raise Malformed("a timestamp (CBOR tag 1) was expected")


def cbor_scalar(shape: Shape) -> Scalar:
    """The CBOR form: bytes stay bytes, a time is tag 1 whatever the model says (Smithy RPC v2 CBOR)."""
    if shape.type == "blob":
        return Scalar(_check_bytes, _take_bytes)
    if shape.type == "timestamp":
        return Scalar(lambda value: CBORTag(1, to_seconds(value)), _take_cbor_time)
    if shape.type in ("float", "double"):
        return Scalar(lambda value: float(_check_number(value)), _take_float)
    return _JSON[shape.type]
