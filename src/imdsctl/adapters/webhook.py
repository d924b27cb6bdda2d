"""Notices to a webhook: JSON by POST, one after another, tried again with pauses, and never in the way of the watch.

With the environment's IMDSCTL_WEBHOOK_SECRET each body is signed: `X-Imdsctl-Signature: sha256=` and the HMAC-SHA256 of
the body in hexadecimal digits (RFC 2104). The address may hold a secret of its own: only its scheme and host are shown.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.client
import ssl
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from imdsctl import __version__
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.json_text import json_bytes

SECRET_VARIABLE = "IMDSCTL_WEBHOOK_SECRET"
SIGNATURE_HEADER = "X-Imdsctl-Signature"
TIMEOUT_SECONDS = 10.0
ATTEMPTS_MAX = 5
PAUSE_SECONDS_BASE = 1.0
PAUSE_SECONDS_MAX = 30.0
WAITING_MAX = 1_000
"""Notices that wait; the oldest of more go, and the next that arrives says how many did (`dropped`)."""


class Clock(Protocol):
    """Time and chance, so that a test need not wait."""

    def fraction(self) -> float:
        """A random number from 0 to 1."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended: a status, or why there is none; when the receiver wants to be asked again."""

    status: int | None
    reason: str = ""
    retry_after_seconds: float | None = None

    @property
    def arrived(self) -> bool:
        """True for 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether another attempt may end otherwise."""
        return self.status is None or self.status in (408, 425, 429) or self.status >= 500


class Webhook:
    """Sends notices in the background. `failed` hears of one that could not be delivered, without its address."""

    def __init__(self, url: str, secret: str | None, clock: Clock, failed: Callable[[str, str], None]) -> None:
        self._parts = _parsed(url)
        self._secret = secret.encode("utf-8", "surrogateescape") if secret else None
        self._clock = clock
        self._failed = failed
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._dropped = 0
        self._came = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return f"{self._parts.scheme}://{self._parts.hostname}"

    def send(self, notice: Mapping[str, Any]) -> None:
        """Take a notice; it is on its way when this returns."""
        if len(self._waiting) == WAITING_MAX:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(notice)
        self._empty.clear()
        self._came.set()
        if self._task is None:
            self._task = asyncio.create_task(self._deliver_all())

    async def close(self, seconds: float = TIMEOUT_SECONDS) -> None:
        """Let what waits arrive, for at most so long."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            self._failed(self.shown, f"{len(self._waiting) or 1} notices were not delivered before the end")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _deliver_all(self) -> None:
        while True:
            await self._came.wait()
            while self._waiting:
                notice = dict(self._waiting.popleft())
                if self._dropped:
                    notice["dropped"], self._dropped = self._dropped, 0
                await self._deliver(json_bytes(notice))
            self._came.clear()
            self._empty.set()

    async def _deliver(self, body: bytes) -> None:
        pause = PAUSE_SECONDS_BASE
        for attempt in range(1, ATTEMPTS_MAX + 1):
            answer = await asyncio.to_thread(self._post, body)
            if answer.arrived:
                return
            if not answer.passing or attempt == ATTEMPTS_MAX:
                self._failed(self.shown, answer.reason or f"it answered {answer.status}")
                return
            wanted = answer.retry_after_seconds
            wait = pause * (0.5 + self._clock.fraction() / 2) if wanted is None else wanted
            await self._clock.sleep(min(wait, PAUSE_SECONDS_MAX))
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _post(self, body: bytes) -> Answer:
        request = urllib.request.Request(_address(self._parts), body, self._headers(body), method="POST")
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as response:
                return Answer(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, retry_after_seconds=_seconds(error.headers.get("Retry-After")))
        except urllib.error.URLError as error:
            reason = error.reason
            return Answer(None, str(getattr(reason, "strerror", None) or type(reason).__name__))
        except (OSError, ssl.SSLError, http.client.HTTPException) as error:
            return Answer(
                None, error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            )

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"imdsctl/{__version__}"}
        if self._parts.username is not None:
            pair = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = "sha256=" + signature(self._secret, body)
        return headers


def signature(secret: bytes, body: bytes) -> str:
    """The HMAC-SHA256 of a body, in hexadecimal digits."""
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A notice goes where it was sent, and nowhere else: a redirect is an answer that did not take it."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        good = good and url.isascii() and not any(each <= " " for each in url)
    except ValueError:
        good = False
    if not good:
        raise DiagnosticError(
            Diagnostic(
                "webhook-invalid",
                "that is not the address of a webhook",
                subject="--webhook",
                hint="write it like `https://host/path`; other characters than ASCII percent-encoded",
            ),
            exit_code=2,
        )
    return parts


def _address(parts: SplitResult) -> str:
    """The address without user and password, which go into a header."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else None
