"""What the fleet asks of the world outside. Each port is the smallest set of calls that the fleet uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.evidence import Evidence, InstanceEvidence
from imdsctl.domain.history import ScanRecord
from imdsctl.domain.observations import RegionSeen, Scan, ScanEnd, ScanHeader, Target

if TYPE_CHECKING:
    from imdsctl.wire.service import Projection


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys that sign a request. `expires` (aware) is when AWS stops taking them; None when they do not expire.

    `account_id` is whose they are, where that is known. `renew` gets others in their place when AWS says that these
    have expired; it raises ServiceError and Unreachable. None: there is nowhere to get others from.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None
    account_id: str = ""
    renew: Callable[[], Awaitable[Credentials | None]] | None = field(default=None, repr=False, compare=False)


class Unreachable(Exception):
    """No answer from AWS that can be read: the network, a reply cut short, or a reply that is not AWS's.

    `host` is who was asked, `reason` what happened, `next_step` what the reader can do. `maybe_done` is true when the
    request may have reached AWS, so that a write may have happened.
    """

    def __init__(self, host: str, reason: str, next_step: str, *, maybe_done: bool = True) -> None:
        super().__init__(f"no usable answer from `{host}`: {reason}; {next_step}")
        self.host = host
        self.reason = reason
        self.next_step = next_step
        self.maybe_done = maybe_done


class Aws(Protocol):
    """AWS's API. One client serves all accounts and Regions; credentials belong to the request.

    `credentials` None means the user's own, as every AWS tool finds them. `service` is botocore's name (`ec2`, `sts`);
    `params` and results are as boto3 has them; `projection` names the members of the result that are wanted.

    Raises `imdsctl.wire.errors.ServiceError` when AWS refuses, `Unreachable` when AWS cannot be asked, and
    `imdsctl.domain.diagnostics.DiagnosticError` when the user's own credentials or settings are missing or wrong.
    Throttling, server errors and broken connections are retried before they are raised; credentials that have expired
    are renewed and a clock that is off is corrected, and the call is sent again. A host that does not answer at all is
    left alone for a while: until then its calls are `Unreachable` at once.
    """

    @property
    def default_region(self) -> str | None:
        """The Region that the user's environment or profile names, None when neither does."""
        ...

    async def call(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> dict[str, Any]:
        """One call, one result."""
        ...

    def paginate(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page, in order. An empty page with a `NextToken` is followed; the same token twice is `Unreachable`."""
        ...


class ScanWriter(Protocol):
    """A scan that is being taken. Every method raises DiagnosticError when the store does not take it."""

    @property
    def header(self) -> ScanHeader:
        """What the scan began with; of one that is gone on with, what its first run wrote."""
        ...

    @property
    def done(self) -> Collection[Target]:
        """Targets that are in the store already, from an earlier run of the same scan."""
        ...

    def add(self, region: RegionSeen) -> None:
        """Keep one target. Adding a target again replaces it."""
        ...

    def flush(self) -> None:
        """Everything added so far is kept, whatever happens next. A sweep that ends early calls it on its way out."""
        ...

    def finish(self, end: ScanEnd) -> Scan:
        """The scan is whole: nothing changes it from here on. Gives it as the store would load it."""
        ...


class ScanStore(Protocol):
    """Where scans are kept. A finished one is never changed. Every method raises DiagnosticError."""

    def prepare(self) -> None:
        """Check, before a long sweep, that a scan can be saved."""
        ...

    def begin(self, header: ScanHeader) -> ScanWriter:
        """Begin a scan. Until it is finished it is not `latest`, and may be gone on with."""
        ...

    def resume(self, scan_id: str | None = None) -> ScanWriter:
        """Go on with an unfinished scan: the one of that id, or the one that began last."""
        ...

    def save(self, scan: Scan) -> None:
        """Keep a scan, whole or not at all."""
        ...

    def latest(self) -> Scan | None:
        """The finished scan that finished last, or None when there is none."""
        ...

    def load(self, scan_id: str) -> Scan:
        """One finished scan; that there is no such scan is a diagnostic."""
        ...

    def history(self) -> tuple[ScanRecord, ...]:
        """Every scan in numbers, unfinished ones too, the one that began last first."""
        ...

    def delete(self, scan_ids: Collection[str]) -> None:
        """Forget scans with their evidence."""
        ...

    def save_evidence(self, evidence: Evidence) -> None:
        """Keep evidence with its scan, in place of what was gathered for it before."""
        ...

    def evidence(self, scan_id: str) -> Evidence | None:
        """What was gathered for a scan, or None."""
        ...


class Gauge(Protocol):
    """What CloudWatch counted, for the gates of an apply. Raises nothing: what could not be asked is None, with why."""

    async def no_token(
        self, instances: Collection[tuple[Target, str]], since: datetime
    ) -> Mapping[tuple[Target, str], InstanceEvidence]:
        """IMDSv1 calls (MetadataNoToken) of each instance since then."""
        ...

    async def rejected(
        self, instances: Collection[tuple[Target, str]], since: datetime
    ) -> Mapping[tuple[Target, str], InstanceEvidence]:
        """IMDSv1 calls that were turned down (MetadataNoTokenRejected) of each instance since then."""
        ...


class Lease(Protocol):
    """The right to write, held against operators on other machines."""

    @property
    def number(self) -> int:
        """Grows with every owner: the fencing token that the journal records."""
        ...

    async def check(self) -> None:
        """Before a write. Raises DiagnosticError `lease-lost` when the right is, or may be, somebody else's by now."""
        ...


class HeldLease(Lease, Protocol):
    """A lease that has just been taken."""

    @property
    def taken_over(self) -> Diagnostic | None:
        """A warning when the owner before had not given it back."""
        ...
