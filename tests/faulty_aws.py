"""A local AWS that misbehaves on request, on a real socket in this process, and `imdsctl` as the user types it.

Commands are the real ones over the real client and the real adapters. Only waiting is taken away: the delays between
attempts are nothing, and timeouts are short.
"""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imdsctl import bootstrap
from imdsctl.adapters.aws import AwsClient
from imdsctl.adapters.http_client import HttpClient
from imdsctl.adapters.http_server import HttpServer
from imdsctl.adapters.local_server import MODEL_NAMES, local_aws
from imdsctl.adapters.models import load_service
from imdsctl.adapters.profile import Profile
from imdsctl.cli.app import run
from imdsctl.cli.errors import report
from imdsctl.local.adversary import Adversary, Delivery
from imdsctl.local.faults import Asked, parse_faults
from imdsctl.local.generator import make_world
from imdsctl.local.spec import WorldSpec
from imdsctl.local.throttle import Throttle, Throttling
from imdsctl.wire import sigv4
from imdsctl.wire.http import HttpRequest

READ_TIMEOUT_SECONDS = 1.0
"""Longer than a busy machine takes to answer what a whole sweep asks at once."""
REGIONS = ("eu-west-1", "us-east-1")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class HastyClock:
    """The machine's time; nobody ever waits. What an attempt takes by this clock is up to the test."""

    def __init__(self) -> None:
        self.seconds_per_attempt = 0.0
        self._passed = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self._passed

    def fraction(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self._passed += self.seconds_per_attempt
        await asyncio.sleep(0)


class FaultyAws:
    """One organization. `ahead` moves AWS's own clock; `asked` is every call that came, in order."""

    def __init__(self, spec: WorldSpec) -> None:
        self.ahead = timedelta()
        self.asked: list[Asked] = []
        self.bugs: list[str] = []
        self.world = make_world(spec)
        self.aws = local_aws(
            self.world,
            clock=lambda: datetime.now(UTC) + self.ahead,
            report=self.bugs.append,
            throttle=Throttle(Throttling.NONE),
        )
        self.clients: list[AwsClient] = []
        self.clock = HastyClock()
        self.before_call: Callable[[Asked], None] = lambda asked: None
        self.misbehave()

    def misbehave(self, *rules: dict[str, Any], seed: int = 1) -> None:
        """From now on: these rules, counted from nothing; no rule: everything works."""
        faults = parse_faults({"seed": seed, "rule": list(rules)}, "test")
        self.adversary = Adversary(self.aws, faults, names=MODEL_NAMES)
        self.asked.clear()

    def deliver(self, request: HttpRequest) -> Delivery:
        asked = self.aws.asked(request)
        self.asked.append(asked)
        self.before_call(asked)
        return self.adversary.deliver(request)

    @property
    def hits(self) -> int:
        """How often a rule hit."""
        return sum(self.adversary.faults.hit)

    @property
    def management(self) -> str:
        """The account whose credentials the user has."""
        return self.world.management.id

    @property
    def members(self) -> list[str]:
        """Accounts that can be entered by their role."""
        return [
            each.id
            for each in self.world.accounts.values()
            if each.state == "ACTIVE" and not each.refuses_role and each.id != self.management
        ]

    def as_administrator(
        self, account_id: str, service: str, region: str, operation: str, params: dict[str, Any]
    ) -> dict[str, Any]:
        """What somebody else does meanwhile: one call of an account's administrator, past every fault."""
        compiled = load_service(service).operation(operation)
        request = compiled.encode_request(params, new_token=lambda: operation)
        key = self.world.admin_credentials(account_id)
        headers = {"host": "localhost", **request.headers}
        headers |= sigv4.sign(
            request.method,
            request.path,
            request.query,
            headers,
            request.body,
            access_key=key.access_key_id,
            secret_key=key.secret_access_key,
            token=None,
            region=region,
            service=service,
            amz_date=(datetime.now(UTC) + self.ahead).strftime("%Y%m%dT%H%M%SZ"),
        )
        response = self.aws.handle(replace(request, headers=headers))
        assert response.status == 200, response.body
        return compiled.decode_response(response)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve in a thread of its own; gives the URL."""
        listener = socket.create_server(("127.0.0.1", 0))
        ready, loop = threading.Event(), asyncio.new_event_loop()
        server: list[HttpServer] = []

        async def serve() -> None:
            server.append(HttpServer(self.aws.handle, None, self.deliver))
            await server[0].start(listener)
            ready.set()
            await server[0].stopped.wait()
            await server[0].close()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        ready.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(server[0].stopped.set)
            thread.join()
            loop.close()

    def imdsctl(self, *argv: str) -> Done:
        """Run a command, with the adapters that the program is made of."""

        @asynccontextmanager
        async def aws(profile: str | None) -> AsyncIterator[AwsClient]:
            client = AwsClient(
                Profile(profile),
                http=HttpClient(read_timeout_seconds=READ_TIMEOUT_SECONDS),
                clock=self.clock,
                warn=lambda diagnostic: report([diagnostic]),
            )
            self.clients.append(client)
            try:
                yield client
            finally:
                await client.aclose()

        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(argv, replace(bootstrap.dependencies(), aws=aws))
        assert not self.bugs, self.bugs[-1]
        return Done(code, out.getvalue(), err.getvalue())
