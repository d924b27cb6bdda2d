"""Where the metadata service of a local AWS's instance gets what it serves: the control plane's state, as it is now."""

from __future__ import annotations

from datetime import datetime, timedelta

from imdsctl.domain.options import MetadataOptions
from imdsctl.imds.facts import Facts, RoleCredentials
from imdsctl.local.ec2.resources import Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.metadata.facts import facts_of
from imdsctl.local.metadata.roles import RENEWED_SECONDS, credentials, profile_role, refused, trusts_ec2
from imdsctl.local.world import World


def options_in_force(state: RegionState, instance: Instance, now: datetime, settle_seconds: float) -> MetadataOptions:
    """The options by which the instance's service answers: those of the latest change that is applied by now.

    A change is applied once it has settled; until then what it replaced holds (ModifyInstanceMetadataOptions: `State`
    is `pending` until the options "have been successfully applied").
    """
    settle = timedelta(seconds=settle_seconds)
    for changed, before in state.metadata_changes.get(instance.id, ()):
        if changed + settle > now:
            return before
    return instance.options


class InstanceSource:
    """What one instance serves. `now` is set by whoever passes it a request, after the Region was settled.

    Nothing here can be stale: whatever changes is changed by a write, which the world counts, or happens by itself,
    which the Region counts.
    """

    __slots__ = ("_credentials", "_facts", "_instance", "_profile", "_state", "_trusted", "_version", "_world", "now")

    def __init__(self, world: World, state: RegionState, instance: Instance, now: datetime) -> None:
        self.now = now
        self._world = world
        self._state = state
        self._instance = instance
        # By delivery, and `identity/` with it: the id of the role and its credentials.
        self._credentials: dict[str, tuple[str, RoleCredentials]] = {}
        self._trusted: bool | None = None  # not looked at yet
        self._look()

    @property
    def options(self) -> MetadataOptions:
        """The options that hold."""
        return options_in_force(self._state, self._instance, self.now, self._world.settle_seconds)

    def facts(self, now: float) -> Facts:
        """The instance as it is."""
        if self._version != (self._world.sequence, self._state.settled):
            self._look()
        return self._facts

    def role_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Credentials of the profile's role: the same until they are renewed, or the role is another.

        With a problem when the role does not trust EC2, or when there is no role.
        """
        self.facts(now)
        role = self._profile.role
        if role is None:
            return RoleCredentials(updated=self.now, problem=self._profile.problem or "Failed")
        if self._trusted is None:
            self._trusted = trusts_ec2(role, self._state, self._instance)
        if not self._trusted:
            return refused(role, self.now)
        kept = self._credentials.get(delivery)
        if kept is None or kept[0] != role.id or self._is_old(kept[1]):
            made = credentials(self._world, self._state, self._instance, role, delivery, self.now)
            kept = self._credentials[delivery] = role.id, made
        return kept[1]

    def identity_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Credentials of the instance identity role."""
        kept = self._credentials.get(f"identity/{delivery}")
        if kept is None or self._is_old(kept[1]):
            made = credentials(self._world, self._state, self._instance, None, delivery, self.now)
            kept = self._credentials[f"identity/{delivery}"] = "", made
        return kept[1]

    def _is_old(self, kept: RoleCredentials) -> bool:
        return self.now >= kept.updated + timedelta(seconds=RENEWED_SECONDS)

    def _look(self) -> None:
        self._version = (self._world.sequence, self._state.settled)
        self._profile = profile_role(self._world, self._state.account_id, self._instance)
        self._trusted = None
        self._facts = facts_of(self._state, self._instance, self._profile)
