"""The port through which the fleet reads AWS, on an offline local AWS: the product's own codec and signatures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.contract.conftest import Offline

from imdsctl.adapters.models import load_service
from imdsctl.fleet.ports import Credentials
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.wire import sigv4
from imdsctl.wire.http import HttpRequest
from imdsctl.wire.service import Projection


class OfflineAws:
    """Signs with the key of an account's administrator; `asked` are the operations in the order of their calls.

    `changed` may change an answer: what the local AWS never says can be heard too.
    """

    default_region: str | None = "us-east-1"

    def __init__(self, offline: Offline, account: str, **changed: Any) -> None:
        self.offline = offline
        self.key = offline.world.admin_credentials(account)
        self.asked: list[str] = []
        self.changed = changed

    async def call(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> dict[str, Any]:
        self.asked.append(operation)
        if operation in self.changed:
            answer: dict[str, Any] = self.changed[operation](params)
            return answer
        model = load_service(service)
        compiled = model.operation(operation)
        request = compiled.encode_request(params)
        headers = {"host": "127.0.0.1:16925", **request.headers}
        headers |= sigv4.sign(
            request.method,
            request.path,
            request.query,
            headers,
            request.body,
            access_key=self.key.access_key_id,
            secret_key=self.key.secret_access_key,
            token=None,
            region=region,
            service=model.signing_name,
            amz_date=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        )
        answered = self.offline.aws.handle(
            HttpRequest(request.method, request.path, request.query, headers, request.body)
        )
        assert not self.offline.bugs, self.offline.bugs[-1]
        return compiled.decode_response(answered, projection=projection)

    def paginate(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        raise NotImplementedError("these readers page by themselves")

    def calls(self, service: str, region: str) -> ServiceCalls:
        return ServiceCalls(self, None, service, self.key.caller.account_id, region)
