"""One service's API in one account and Region, for a reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.fleet.ports import Aws, Credentials
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

    def pages(
        self, operation: str, params: Mapping[str, Any] | None = None, projection: Projection | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page, in order."""
        return self.aws.paginate(self.credentials, self.service, self.region, operation, params or {}, projection)
