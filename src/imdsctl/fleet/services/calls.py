"""One service's API in one account and Region, for a reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.wire.service import Projection


@dataclass(frozen=True, slots=True)
class ServiceCalls:
    """Calls bound to a service, an account's credentials and a Region. Both raise ServiceError and Unreachable."""

    aws: Aws
    credentials: Credentials | None
    service: str
    account_id: str
    region: str

    async def call(
        self, operation: str, params: Mapping[str, Any] | None = None, projection: Projection | None = None
    ) -> dict[str, Any]:
        """One call, one result."""
        return await self.aws.call(self.credentials, self.service, self.region, operation, params or {}, projection)

    async def pages(
        self,
        operation: str,
        params: Mapping[str, Any] | None = None,
        projection: Projection | None = None,
        *,
        token: str = "NextToken",
        next_token: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page, in order.

        `token` is the member of the request that names a page, `next_token` the answer's that names the next one, where
        that is another. The same token twice is Unreachable: the list would never end.
        """
        given: dict[str, Any] = dict(params or {})
        answer = next_token or token
        wanted = None if projection is None else {**projection, answer: None}
        seen: set[str] = set()
        while True:
            page = await self.call(operation, given, wanted)
            yield page
            following = page.get(answer)
            if not following:
                return
            if following in seen:
                raise Unreachable(
                    self.service,
                    f"{operation} gave the same page marker twice, so its list would never end",
                    "run the same command again",
                    maybe_done=False,
                )
            seen.add(following)
            given[token] = following
