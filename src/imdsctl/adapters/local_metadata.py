"""The metadata services of a running local AWS, from outside its process.

A server takes these requests from whoever knows its control key, which stands in its registration and is never told
over the network: not to a web page in a browser, nor to a program that can be made to send a request (SSRF).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from imdsctl.adapters.http_client import HttpClient, Origin
from imdsctl.adapters.local_registry import ANSWER_SECONDS_MAX, Entry
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.options import MetadataOptions
from imdsctl.fleet.ports import Unreachable
from imdsctl.imds.messages import Reply, Request
from imdsctl.local.keys import account_of_key
from imdsctl.local.metadata.control import read_reply, written_request
from imdsctl.local.metadata.search import search
from imdsctl.local.paths import CONTROL_HEADER, CONTROL_PATH
from imdsctl.wire.http import HttpRequest


@dataclass(frozen=True, slots=True)
class LocalInstance:
    """An instance of a running local AWS, as it was when it was asked for. `options` are those that hold.

    `state` is EC2's (`running`, ...); `role` is the name of its profile's role, None without one.
    """

    account_id: str
    region: str
    instance_id: str
    state: str
    options: MetadataOptions
    role: str | None


def describe(
    entry: Entry,
    instance_id: str,
    *,
    account_id: str | None = None,
    region: str | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> LocalInstance:
    """The instance of that id, wherever it is unless account or Region say so.

    An instance that nobody has asked about yet is looked for where the user of `environ` works (AWS_ACCESS_KEY_ID,
    AWS_REGION) and then everywhere. Raises DiagnosticError `instance-unknown` (usage) when it is not found,
    `local-not-running` when nobody answers.
    """
    tried: DiagnosticError | None = None
    for account, its_region in _places(entry, instance_id, account_id, region, environ):
        try:
            found = _ask(entry, "describe", {"instance": instance_id, "account": account, "region": its_region})
        except DiagnosticError as error:
            if error.diagnostics[0].code != "instance-unknown":
                raise
            tried = error
        else:
            return LocalInstance(
                found["account"],
                found["region"],
                found["instance"],
                found["state"],
                MetadataOptions.from_aws(found["options"]),
                found["role"],
            )
    assert tried is not None
    raise tried


def _places(
    entry: Entry, instance_id: str, account_id: str | None, region: str | None, environ: Mapping[str, str]
) -> Iterator[tuple[str | None, str | None]]:
    """Where to ask for an instance, one after the other: what is cheap first."""
    yield account_id, region
    if account_id is not None and region is not None:
        return
    account = account_id or account_of_key(environ.get("AWS_ACCESS_KEY_ID", ""))
    its_region = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if account is not None and its_region is not None:
        yield account, its_region
    found = search(entry.spec, instance_id, account_id, region)
    if found is not None:
        yield found


def connect(entry: Entry, instance: LocalInstance, *, port: int = 0) -> str:
    """Let the metadata service of an instance be reached; the URL at which it is (`http://127.0.0.1:40001`).

    Connecting again gives the same URL. Raises DiagnosticError: `instance-not-running` when it has terminated, and
    what `local_server.listen` raises for a `port` that cannot be had.
    """
    return str(_ask(entry, "connect", {**_named(instance), "port": port})["endpoint"])


def notify(entry: Entry, instance: LocalInstance, action: str, **params: Any) -> dict[str, Any]:
    """Announce something to an instance, as `control.NOTICES` has it; what came of it, in AWS's names.

    Raises DiagnosticError `notice-refused` (usage) when the instance cannot be told that.
    """
    return _ask(entry, "notify", {**_named(instance), "action": action, "params": params})


def certificate(entry: Entry) -> str:
    """The certificates (PEM) against which the signatures of the identity documents verify."""
    return str(_ask(entry, "certificate", {})["certificate"])


class Responder:
    """Answers requests as an instance's metadata service does, which runs in the local AWS. For one event loop.

    A request is counted and logged there like any other. End with `aclose`.
    """

    def __init__(self, entry: Entry, instance: LocalInstance) -> None:
        self._origin = Origin("http", entry.host, entry.port)
        self._headers = {"host": self._origin.authority, CONTROL_HEADER: entry.control}
        self._named = _named(instance)
        self._client = HttpClient(proxies={})

    async def __call__(self, request: Request) -> Reply:
        """The reply. Raises ConnectionError when there is none: the instance does not run, or the local AWS ended."""
        body = json.dumps({**self._named, **written_request(request)}).encode()
        asked = HttpRequest("POST", f"{CONTROL_PATH}respond", "", self._headers, body)
        try:
            answer = await self._client.send(self._origin, asked)
        except Unreachable as error:
            raise ConnectionError(str(error)) from None
        if answer.status != 200:
            raise ConnectionRefusedError(_diagnostic(answer.body).summary)
        return read_reply(json.loads(answer.body))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()


def remote_responder(entry: Entry, instance: LocalInstance) -> Responder:
    """What answers for an instance of a running local AWS: `await respond(request)` gives the reply."""
    return Responder(entry, instance)


def _named(instance: LocalInstance) -> dict[str, str]:
    return {"account": instance.account_id, "region": instance.region, "instance": instance.instance_id}


def _ask(entry: Entry, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection(entry.host, entry.port, timeout=ANSWER_SECONDS_MAX)
    try:
        connection.request("POST", f"{CONTROL_PATH}{what}", json.dumps(asked), {CONTROL_HEADER: entry.control})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        raise DiagnosticError(
            Diagnostic(
                "local-not-running",
                "the local AWS does not answer",
                subject=entry.url,
                hint="`imdsctl local status` shows what runs; `imdsctl local up --detach` starts one",
            )
        ) from None
    finally:
        connection.close()
    if response.status != 200:
        raise DiagnosticError(_diagnostic(body), exit_code=2 if response.status == 400 else 1)
    answer: dict[str, Any] = json.loads(body)
    return answer


def _diagnostic(body: bytes) -> Diagnostic:
    try:
        said = json.loads(body)["diagnostic"]
        return Diagnostic(said["code"], said["summary"], said["subject"], said["hint"])
    except (ValueError, KeyError, TypeError):
        return Diagnostic(
            "local-too-old",
            "the local AWS does not know this request: another version of imdsctl started it",
            hint="`imdsctl local down`, then `imdsctl local up` starts it anew",
        )
