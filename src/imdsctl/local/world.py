"""The world of the local AWS: an organization, its accounts with their credentials, and the Regions' states.

Everything here is a deterministic function of the `WorldSpec` and of the writes that were applied since. A Region's
resources are generated when the Region is touched for the first time, so that start-up does not grow with the fleet.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from imdsctl.domain.options import AccountDefaults
from imdsctl.domain.regions import COMMERCIAL_REGIONS, DEFAULT_REGIONS, OPT_IN_REGIONS
from imdsctl.local.call import Caller
from imdsctl.local.cloudtrail.trail import Trail
from imdsctl.local.cloudwatch.state import Metrics
from imdsctl.local.ec2.fragments import Fragments
from imdsctl.local.iam.generator import ADMIN_USER, first_state
from imdsctl.local.iam.state import ACTIVE, IamState, User
from imdsctl.local.keys import account_of_key, key_id
from imdsctl.local.organizations.state import OrganizationState
from imdsctl.local.sessions import INSTANCE_IDENTITY_ROLE, ROLE, USER, Session
from imdsctl.local.spec import WorldSpec
from imdsctl.local.ssm.state import ParameterStore
from imdsctl.policy.declarative import EffectivePolicy
from imdsctl.policy.document import Policy

if TYPE_CHECKING:
    from imdsctl.local.ec2.resources import Image
    from imdsctl.local.ec2.state import RegionState

ROLE_NAME = "OrganizationAccountAccessRole"
"""The role Organizations makes in every member account it creates (Organizations User Guide, "Accessing member
accounts"); the management account has none."""

ENABLED_BY_DEFAULT = "ENABLED_BY_DEFAULT"
ENABLED = "ENABLED"
ENABLING = "ENABLING"
DISABLED = "DISABLED"
DISABLING = "DISABLING"


@dataclass(slots=True)
class Account:
    """A member (or the management account) of the organization, with its administrator's access key.

    `state` is Organizations' (`ACTIVE`, `SUSPENDED`); `opt_in` holds the Regions whose status was ever set, each as
    (status, when it becomes final); `refuses_role` marks the account that was invited and never made the role.
    An account that CreateAccount made has no access key, and nothing in it but `role_name`.
    """

    id: str
    name: str
    email: str
    joined: datetime
    parent_id: str
    state: str = "ACTIVE"
    joined_method: str = "CREATED"
    refuses_role: bool = False
    access_key_id: str = ""
    secret_access_key: str = ""
    user_id: str = ""
    role_id: str = ""
    role_name: str = ROLE_NAME
    opt_in: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    hides_managed: bool = False  # EC2's managed resource visibility

    def arn(self, organization: Organization) -> str:
        """The account's ARN in Organizations."""
        return f"arn:aws:organizations::{organization.management_id}:account/{organization.id}/{self.id}"


@dataclass(frozen=True, slots=True)
class OrganizationalUnit:
    """A node of the tree under the root; `parent_id` is the root's or another unit's id."""

    id: str
    name: str
    parent_id: str


@dataclass(frozen=True, slots=True)
class Organization:
    """The organization's ids and its tree."""

    id: str
    root_id: str
    management_id: str
    units: tuple[OrganizationalUnit, ...]

    @property
    def arn(self) -> str:
        """The organization's ARN."""
        return f"arn:aws:organizations::{self.management_id}:organization/{self.id}"

    @property
    def root_arn(self) -> str:
        """The root's ARN."""
        return f"arn:aws:organizations::{self.management_id}:root/{self.id}/{self.root_id}"

    def unit_arn(self, unit_id: str) -> str:
        """A unit's ARN."""
        return f"arn:aws:organizations::{self.management_id}:ou/{self.id}/{unit_id}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is signed with, and who that is.

    `expires` and `session` are None for an access key of a user; `session` says what limits temporary credentials.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    expires: datetime | None
    caller: Caller
    session: Session | None = None


T = TypeVar("T")
RegionGenerator = Callable[["World", str, str], "RegionState"]
Kept = TypeVar("Kept")
DefaultsGenerator = Callable[[WorldSpec, str, str], AccountDefaults]


class World:
    """All state of the local AWS. Not thread-safe; the pipeline calls it from one thread.

    `generate(world, account_id, region)` makes a Region's first state; `first_defaults(spec, account_id, region)` says
    which instance metadata defaults that has, without making it.
    """

    def __init__(
        self,
        spec: WorldSpec,
        organization: Organization,
        accounts: MutableMapping[str, Account],
        generate: RegionGenerator,
        first_defaults: DefaultsGenerator = lambda spec, account_id, region: AccountDefaults(),
    ) -> None:
        self.spec = spec
        self.seed = spec.seed
        self.created = spec.created
        self.settle_seconds = spec.settle_seconds
        self.accounts = accounts
        self.organizations = OrganizationState(organization, accounts, spec.created)
        # Counts the writes that may change what somebody is allowed to do: what follows from policies is kept with it.
        self.policy_epoch = 0
        self.sequence = 0  # of the last write; the pipeline counts it up
        # How EC2 writes a structure as an item of a list, so that its XML can be kept until it changes; None while no
        # response is written (a replay). What is kept is bounded by `fragments`.
        self.fragment: Callable[[str, Mapping[str, Any]], bytes] | None = None
        # Regions with Auto Scaling groups, in which things happen by themselves that look beyond the Region.
        self.self_acting: dict[tuple[str, str], RegionState] = {}
        # Images that somebody else may see, by Region and id: nobody should have to look through all accounts for them.
        self.shared_images: dict[str, dict[str, Image]] = {}
        self.fragments = Fragments()
        self._generate = generate
        self._first_defaults = first_defaults
        self._regions: dict[tuple[str, str], RegionState] = {}
        self._iam: dict[str, IamState] = {}
        self._parameters: dict[tuple[str, str], ParameterStore] = {}
        self._metrics: dict[tuple[str, str], Metrics] = {}
        self._kept: dict[tuple[Callable[..., Any], str, str], Any] = {}
        self.trail = Trail()
        self.identity_keys: bytes | None = None  # that sign identity documents (PEM); made when first needed
        self._sessions: dict[str, Credentials] = {}
        # Long-term access keys that were used or changed; None for those that authenticate nobody (any more).
        self._keys: dict[str, Credentials | None] = {}

    # -- the organization ---------------------------------------------------------------------------------------------

    @property
    def organization(self) -> Organization:
        """The organization as it is now."""
        return self.organizations.organization

    def scp_levels(self, account_id: str) -> Sequence[Sequence[Policy]] | None:
        """The SCPs that bind an account, from the root (first) down to itself (last); None while SCPs are disabled.

        The management account has them too; that they do not bind it is the evaluation's to know. Cheap: kept until
        something changes. Raises KeyError for an account that is not ours.
        """
        return self.organizations.scp_levels(account_id)

    def effective_declarative_policy(self, account_id: str) -> EffectivePolicy:
        """What declarative policies set for an account; the same object until something changes.

        Raises KeyError for an account that is not ours.
        """
        return self.organizations.effective_declarative_policy(account_id)

    # -- accounts and credentials ------------------------------------------------------------------------------------

    @property
    def management(self) -> Account:
        """The management account."""
        return self.accounts[self.organization.management_id]

    def _long_term(self, access_key_id: str) -> Credentials | None:
        """The credentials of a long-term access key: one that somebody made, or an administrator's as generated."""
        if access_key_id in self._keys:
            return self._keys[access_key_id]
        # The key says whose it would be, so that no table of all accounts' keys is needed.
        account = self.accounts.get(account_of_key(access_key_id) or "")
        if account is None or account.access_key_id != access_key_id:
            return None
        found = self._keys[access_key_id] = self.admin_credentials(account.id)
        return found

    def admin_credentials(self, account_id: str) -> Credentials:
        """The access key that the account's administrator was generated with.

        Raises KeyError for an account that is not ours.
        """
        account = self.accounts[account_id]
        caller = Caller(
            account_id, f"arn:aws:iam::{account_id}:user/{ADMIN_USER}", account.user_id, account.access_key_id
        )
        return Credentials(account.access_key_id, account.secret_access_key, None, None, caller)

    def credentials(self, access_key_id: str, session_token: str | None) -> Credentials | None:
        """The credentials a request names, or None when there are none such (or the token is not theirs).

        Whether they have expired is the caller's to ask: AWS refuses that with another code.
        """
        if session_token is None:
            return self._long_term(access_key_id)
        found = self._sessions.get(session_token)
        if found is None:
            found = self._open_session(session_token)
            if found is None:
                return None
            if len(self._sessions) >= SESSIONS_REMEMBERED_MAX:
                self._sessions.clear()
            self._sessions[session_token] = found
        return found if found.access_key_id == access_key_id and self._goes_on(found) else None

    def open_session(self, session: Session) -> Credentials:
        """Temporary credentials for a session (sessions.py). Nothing is stored: they outlive a restart."""
        body = session.pack()
        token = TOKEN_PREFIX + base64.b64encode(self.seal(b"session", body) + body).decode()
        opened = self._open_session(token)
        assert opened is not None
        return opened

    def _open_session(self, token: str) -> Credentials | None:
        if not token.startswith(TOKEN_PREFIX):
            return None
        try:
            sealed = base64.b64decode(token[len(TOKEN_PREFIX) :], validate=True)
        except ValueError:
            return None
        mac, body = sealed[:32], sealed[32:]
        if not hmac.compare_digest(mac, self.seal(b"session", body)):
            return None
        session = Session.unpack(body)
        access_key_id = key_id("ASIA", session.account_id, int.from_bytes(self.seal(b"access-key", body), "big"))
        if session.kind == ROLE:
            user_id = f"{session.principal_id}:{session.name}"
            arn = f"arn:aws:sts::{session.account_id}:assumed-role/{session.principal}/{session.name}"
        else:
            user = self.iam(session.account_id).user(session.principal)
            if user is None:
                return None
            user_id, arn = session.principal_id, user.arn
        return Credentials(
            access_key_id,
            base64.b64encode(self.seal(b"secret", body)[:30]).decode(),
            token,
            datetime.fromtimestamp(session.expires, UTC),
            Caller(session.account_id, arn, user_id, access_key_id),
            session,
        )

    def _goes_on(self, credentials: Credentials) -> bool:
        """Whether the role or user of a session still exists; another of the same name is another."""
        session = credentials.session
        if session is None or session.principal == INSTANCE_IDENTITY_ROLE:
            return True
        iam = self.iam(session.account_id)
        found = iam.role(session.principal) if session.kind == ROLE else iam.user(session.principal)
        return found is not None and found.id == session.principal_id

    # -- IAM ----------------------------------------------------------------------------------------------------------

    def iam(self, account_id: str) -> IamState:
        """An account's IAM, made when it is touched for the first time. Raises KeyError for an account not ours."""
        state = self._iam.get(account_id)
        if state is None:
            state = self._iam[account_id] = first_state(self.organization, self.accounts[account_id])
        return state

    def refresh_keys(self, account_id: str, user: User) -> None:
        """Make the user's active access keys authenticate, as the user is now, and no others of its keys."""
        for key in user.keys.values():
            if key.status == ACTIVE:
                caller = Caller(account_id, user.arn, user.id, key.id)
                self._keys[key.id] = Credentials(key.id, key.secret, None, None, caller)
            else:
                self._keys[key.id] = None
        # A user's sessions carry its ARN.
        for token in [each for each, found in self._sessions.items() if _is_session_of(found, user)]:
            del self._sessions[token]

    def forget_key(self, access_key_id: str) -> None:
        """An access key that was deleted authenticates nobody."""
        self._keys[access_key_id] = None

    def account_of_key(self, access_key_id: str) -> str | None:
        """The account of a long-term access key of ours that is active; None for any other."""
        return found.caller.account_id if (found := self._long_term(access_key_id)) is not None else None

    def seal(self, purpose: bytes, body: bytes) -> bytes:
        """A message authentication code (32 bytes) that only this world can make; `purpose` has at most 16 bytes."""
        return blake2b(body, key=self._secret, digest_size=32, person=purpose).digest()

    def organization_path(self, account_id: str) -> str:
        """`o-id/r-id/ou-id/`: the way from the organization down to the account, as `aws:PrincipalOrgPaths` has it."""
        path = self.organizations.path(self.accounts[account_id].parent_id)
        return "/".join([self.organization.id, *path]) + "/"

    @cached_property
    def _secret(self) -> bytes:
        return blake2b(f"imdsctl local world {self.seed}".encode(), digest_size=32).digest()

    # -- Regions ------------------------------------------------------------------------------------------------------

    def region(self, account_id: str, region: str) -> RegionState:
        """An account's state in a Region, generated when it is touched for the first time.

        Raises KeyError when the account or the Region does not exist.
        """
        key = (account_id, region)
        state = self._regions.get(key)
        if state is None:
            if account_id not in self.accounts or region not in KNOWN_REGIONS:
                raise KeyError(key)
            state = self._regions[key] = self._generate(self, account_id, region)
            state.declared = partial(self.effective_declarative_policy, account_id)
            state.hides_managed = self.accounts[account_id].hides_managed
        return state

    def parameters(self, account_id: str, region: str) -> ParameterStore:
        """What an account keeps in Parameter Store in a Region."""
        return self._parameters.setdefault((account_id, region), ParameterStore())

    def metrics(self, account_id: str, region: str) -> Metrics:
        """What an account published to CloudWatch in a Region; the world itself adds samples with `put`."""
        found = self._metrics.get((account_id, region))
        if found is None:
            found = self._metrics[account_id, region] = Metrics()
        return found

    def service_state(self, make: Callable[[World, str, str], T], account_id: str, region: str) -> T:
        """What a service keeps of an account in a Region: what `make(world, account_id, region)` made at first touch.

        `make` is a module's function, and must be a function of the world's spec, the account and the Region only.
        """
        key = (make, account_id, region)
        found: T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make(self, account_id, region)
        return found

    def kept(self, account_id: str, region: str, make: Callable[[WorldSpec, RegionState], Kept]) -> Kept:
        """What a service keeps of an account in a Region; `make` makes it when it is asked for the first time.

        When that is depends on reads, which no replay has: `make` may look at the spec and at what the Region's
        `generated` says, and at nothing that a write can have changed.
        """
        key = (make, account_id, region)
        found: Kept | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make(self.spec, self.region(account_id, region))
        return found

    def first_defaults(self, account_id: str, region: str) -> AccountDefaults:
        """The defaults that a Region begins with, without making the Region."""
        if not self.accounts[account_id].access_key_id:  # made by CreateAccount: nobody had set anything
            return AccountDefaults()
        return self._first_defaults(self.spec, account_id, region)

    def settle_all(self, now: datetime) -> None:
        """Carry out what is due where things happen by themselves, before a write that they could look at changes it.

        Without this a launch that was due before the write would find the world after it, unless a read came between.
        """
        for state in self.self_acting.values():
            state.settle(now)

    def touched(self) -> Iterator[tuple[str, str, RegionState]]:
        """The Regions that exist so far: (account, Region, state)."""
        for (account_id, region), state in self._regions.items():
            yield account_id, region, state

    def region_opt_status(self, account_id: str, region: str, now: datetime) -> str:
        """A Region's status for an account, as the account service's ListRegions says it.

        Raises KeyError when the account or the Region does not exist.
        """
        if region in DEFAULT_SET:
            return ENABLED_BY_DEFAULT
        if region not in KNOWN_REGIONS:
            raise KeyError(region)
        status, due = self.accounts[account_id].opt_in.get(region, (DISABLED, now))
        if now >= due:
            return SETTLED.get(status, status)
        return status

    def region_enabled(self, account_id: str, region: str, now: datetime) -> bool:
        """Whether requests of the account are served in the Region (a Region being disabled still serves)."""
        return region in DEFAULT_SET or self.region_opt_status(account_id, region, now) in SERVING

    def enabled_regions(self, account_id: str, now: datetime) -> list[str]:
        """The Regions in which the account's requests are served, in alphabetical order."""
        return [region for region in COMMERCIAL_REGIONS if self.region_enabled(account_id, region, now)]

    def opted_in(self, account_id: str, now: datetime) -> frozenset[str]:
        """The opt-in Regions in which the account's requests are served: only those it ever asked for can be."""
        asked = self.accounts[account_id].opt_in
        return frozenset([region for region in asked if self.region_enabled(account_id, region, now)])

    def set_region_opt_status(self, account_id: str, region: str, status: str, now: datetime) -> None:
        """Start a change (`ENABLING` or `DISABLING`) that becomes final after the world's settling time."""
        self.accounts[account_id].opt_in[region] = (status, now + timedelta(seconds=self.settle_seconds))


SETTLED = {ENABLING: ENABLED, DISABLING: DISABLED}
SERVING = frozenset({ENABLED, ENABLED_BY_DEFAULT, DISABLING})
DEFAULT_SET = frozenset(DEFAULT_REGIONS)
OPT_IN_SET = frozenset(OPT_IN_REGIONS)
KNOWN_REGIONS = frozenset(COMMERCIAL_REGIONS)
SESSIONS_REMEMBERED_MAX = 100_000
TOKEN_PREFIX = "IQoJb3JpZ2luX2Vj"
"""How session tokens of STS begin; scanners for leaked credentials look for it."""


def _is_session_of(credentials: Credentials, user: User) -> bool:
    session = credentials.session
    return session is not None and session.kind == USER and session.principal_id == user.id


def digest(*parts: Any) -> int:
    """A 512-bit integer that depends on the parts only: the source of every generated identifier."""
    return int.from_bytes(blake2b("/".join(map(str, parts)).encode(), digest_size=64).digest(), "big")
