"""The metadata services of all instances of a world. Each is made when it is first asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from imdsctl.imds.messages import Reply, Request
from imdsctl.imds.service import MetadataService
from imdsctl.local.ec2.resources import RUNNING, SHUTTING_DOWN, STOPPING, Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.metadata.counts import Counts
from imdsctl.local.metadata.identity import WorldSigner
from imdsctl.local.metadata.source import InstanceSource
from imdsctl.local.world import World

SERVICES_MAX = 10_000
"""How many services are kept; the one that was not asked for longest goes, and is made again when it is asked."""

SERVED = frozenset({RUNNING, STOPPING, SHUTTING_DOWN})
"""The states in which something runs that can ask; in others nothing listens."""


class Place(NamedTuple):
    """Where an instance is."""

    account_id: str
    region: str
    instance_id: str


@dataclass(slots=True)
class _Kept:
    state: RegionState
    instance: Instance
    source: InstanceSource
    service: MetadataService


class Services:
    """Passes a request to the service of an instance, and counts it.

    `now` gives the world's time. With `logged` the counts are kept for the log, see `Counts.take`. `keep_identity`
    takes the keys that the world is given when an identity document is signed for the first time.
    """

    def __init__(
        self,
        world: World,
        now: Callable[[], datetime],
        keep_identity: Callable[[bytes], None],
        *,
        logged: bool = False,
    ) -> None:
        self.identity = WorldSigner(world, keep_identity)
        self.counts = Counts(world, logged=logged)
        self._world = world
        self._now = now
        self._key = world.seal(b"metadata-token", b"")
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()

    def respond(self, place: Place, request: Request) -> Reply | None:
        """The reply; None when nothing listens there: the instance does not run, or does not exist (any more)."""
        now = self._now()
        kept = self._kept.get(place)
        state = kept.state if kept is not None else self._state(place)
        if state is None:
            return None
        state.settle(now)
        instance = state.instances.get(place.instance_id)
        if instance is None or instance.state not in SERVED:
            return None
        if kept is None or kept.instance is not instance:
            kept = self._make(place, state, instance, now)
        self._kept.move_to_end(place)
        kept.source.now = now
        reply = kept.service.respond(request, now.timestamp())
        self.counts.add(state, instance, reply.access, now)
        return reply

    def _make(self, place: Place, state: RegionState, instance: Instance, now: datetime) -> _Kept:
        source = InstanceSource(self._world, state, instance, now)
        kept = self._kept[place] = _Kept(
            state, instance, source, MetadataService(source, self._key, signer=self.identity)
        )
        if len(self._kept) > SERVICES_MAX:
            self._kept.popitem(last=False)
        return kept

    def _state(self, place: Place) -> RegionState | None:
        try:
            return self._world.region(place.account_id, place.region)
        except KeyError:
            return None

    # -- finding -----------------------------------------------------------------------------------------------------

    def find(self, instance_id: str, account_id: str | None, region: str | None) -> Place | None:
        """Where an instance is; None when it is not found.

        With account and Region that Region is looked at, and made if it was not touched yet; otherwise those that were.
        """
        if account_id is not None and region is not None:
            place = Place(account_id, region, instance_id)
            state = self._state(place)
            return place if state is not None and instance_id in state.instances else None
        for there, its_region, state in self._world.touched():
            if instance_id in state.instances and account_id in (None, there) and region in (None, its_region):
                return Place(there, its_region, instance_id)
        return None

    def look(self, place: Place) -> tuple[RegionState, Instance, InstanceSource] | None:
        """An instance as it is now; None when it does not exist (any more)."""
        now, state = self._now(), self._state(place)
        if state is None:
            return None
        state.settle(now)
        instance = state.instances.get(place.instance_id)
        return None if instance is None else (state, instance, InstanceSource(self._world, state, instance, now))
