"""What the commands of this machine ask of a running local AWS's metadata services, as JSON; and how it is written.

Sans I/O: a path and a body go in, a response comes out. Only who knows the server's control key is answered; a wrong
or missing key is refused as a path that does not exist, before anything of the request is looked at.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.local.ec2.resources import SHUTTING_DOWN, TERMINATED
from imdsctl.local.metadata.services import Place, Services
from imdsctl.local.paths import CONTROL_HEADER, CONTROL_PATH
from imdsctl.wire.errors import ServiceError
from imdsctl.wire.http import HttpRequest, HttpResponse

NOTICES = frozenset({"AnnounceInterruption", "RecommendRebalance", "ScheduleEvent", "CancelEvent"})

NOT_FOUND = HttpResponse(404, {"content-type": "text/plain"}, b"not found\n")


class Control:
    """Answers what is asked below CONTROL_PATH.

    `key` is what CONTROL_HEADER has to carry; `open_listener(place, port)` lets an instance's service be reached and
    gives its URL, the same again when it is asked again; `write` is `LocalAws.write`.
    """

    def __init__(
        self, services: Services, key: str, open_listener: Callable[[Place, int], str], write: Callable[..., Any]
    ) -> None:
        self._services = services
        self._key = key.encode()
        self._open_listener = open_listener
        self._write = write

    def handle(self, request: HttpRequest) -> HttpResponse:
        """The response; a diagnostic as JSON with status 400 (usage) or 409."""
        given = request.headers.get(CONTROL_HEADER, "").encode("utf-8", "replace")
        action = _ACTIONS.get(request.path.removeprefix(CONTROL_PATH))
        if not hmac.compare_digest(given, self._key) or action is None or request.method != "POST":
            return NOT_FOUND
        try:
            answer = action(self, orjson.loads(request.body))
        except DiagnosticError as error:
            said = error.diagnostics[0]
            body = {"code": said.code, "summary": said.summary, "subject": said.subject, "hint": said.hint}
            return _json(400 if error.exit_code == 2 else 409, {"diagnostic": body})
        except (KeyError, TypeError, ValueError, AttributeError):
            return HttpResponse(400, {"content-type": "text/plain"}, b"not a request of this version\n")
        return _json(200, answer)

    def _describe(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        place = self._services.find(asked["instance"], asked.get("account"), asked.get("region"))
        seen = self._services.look(place) if place is not None else None
        if place is None or seen is None:
            raise unknown(asked["instance"])
        _, instance, source = seen
        return {
            "account": place.account_id,
            "region": place.region,
            "instance": instance.id,
            "state": instance.state,
            "options": source.options.to_aws(),
            "role": source.facts(0).role,
        }

    def _connect(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        place, port = _place(asked), asked["port"]
        seen = self._services.look(place)
        if seen is None:
            raise unknown(place.instance_id)
        _, instance, _ = seen
        if instance.state in (SHUTTING_DOWN, TERMINATED):
            raise _not_running(place, instance.state)
        return {"endpoint": self._open_listener(place, int(port))}

    def _respond(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        place = _place(asked)
        reply = self._services.respond(place, read_request(asked))
        if reply is None:
            seen = self._services.look(place)
            raise unknown(place.instance_id) if seen is None else _not_running(place, seen[1].state)
        return written_reply(reply)

    def _certificate(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"certificate": self._services.identity.certificates()}

    def _notify(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one of NOTICES for an instance."""
        place, action, params = _place(asked), asked["action"], dict(asked["params"])
        if action not in NOTICES:
            raise ValueError(action)
        if params.get("NotBefore") is not None:
            params["NotBefore"] = datetime.fromisoformat(params["NotBefore"])
        params["InstanceId"] = place.instance_id
        try:
            return dict(self._write(action, place.account_id, place.region, params))
        except ServiceError as refused:
            raise DiagnosticError(
                Diagnostic("notice-refused", refused.message, subject="/".join(place)), exit_code=2
            ) from None


_ACTIONS: Mapping[str, Callable[[Control, Any], dict[str, Any]]] = {
    "describe": Control._describe,
    "connect": Control._connect,
    "respond": Control._respond,
    "notify": Control._notify,
    "certificate": Control._certificate,
}


def _place(asked: Mapping[str, Any]) -> Place:
    return Place(asked["account"], asked["region"], asked["instance"])


def _json(status: int, value: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, orjson.dumps(value))


def unknown(instance_id: str) -> DiagnosticError:
    """No instance of that id was found."""
    return DiagnosticError(
        Diagnostic(
            "instance-unknown",
            f"the local AWS has no instance `{instance_id}`, as far as was looked",
            hint="`aws ec2 describe-instances` lists those of a Region; `--account` and `--region` say where it is",
        ),
        exit_code=2,
    )


def _not_running(place: Place, state: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "instance-not-running",
            f"the instance is {state}: it has no metadata service",
            subject=f"{place.account_id}/{place.region}/{place.instance_id}",
            hint="`aws ec2 start-instances` starts one that is stopped",
        )
    )


def written_request(request: Request) -> dict[str, Any]:
    """A request as JSON; bytes as the text of their code points."""
    return {
        "method": request.method,
        "target": request.target.decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
        "ipv6": request.ipv6,
    }


def read_request(written: Mapping[str, Any]) -> Request:
    """The request of `written_request`. Raises KeyError, TypeError, ValueError or AttributeError when it is not one."""
    return Request(
        written["method"],
        written["target"].encode("latin-1"),
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in written["headers"]],
        bool(written["ipv6"]),
    )


def written_reply(reply: Reply) -> dict[str, Any]:
    """A reply as JSON."""
    return {
        "content": reply.content.decode("latin-1"),
        "status": reply.status,
        "access": str(reply.access),
        "path": reply.path,
        "hop_limit": reply.hop_limit,
    }


def read_reply(written: Mapping[str, Any]) -> Reply:
    """The reply of `written_reply`."""
    return Reply(
        written["content"].encode("latin-1"),
        written["status"],
        Access(written["access"]),
        written["path"],
        written["hop_limit"],
    )
