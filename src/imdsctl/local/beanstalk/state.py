"""What an account's Elastic Beanstalk keeps in one Region."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

LAUNCH = "aws:autoscaling:launchconfiguration"
DISABLE_V1 = "DisableIMDSv1"

LAUNCHING = "Launching"
UPDATING = "Updating"
READY = "Ready"
TERMINATING = "Terminating"
TERMINATED = "Terminated"

SHOWN = timedelta(hours=1)
"""How long a terminated environment is listed (API Reference, TerminateEnvironment: about an hour)."""


@dataclass(frozen=True, slots=True)
class Application:
    """An application."""

    name: str
    arn: str
    description: str
    created: datetime


@dataclass(slots=True)
class Environment:
    """An environment. `options` are its settings by (namespace, option name).

    `group` names its Auto Scaling group, which launches from a launch configuration, or from a launch template once an
    option asked for what only a template can do. A generated environment has only the name of a group. `ready` is when
    what is under way (`doing`) is over.
    """

    id: str
    name: str
    arn: str
    application: str
    created: datetime
    updated: datetime
    platform: str
    group: str
    options: dict[tuple[str, str], str]
    configuration: str | None = None
    template_id: str | None = None
    description: str | None = None
    version_label: str | None = None
    doing: str = UPDATING
    ready: datetime | None = None

    def status_at(self, now: datetime) -> str:
        """The status at a time."""
        if self.ready is not None and now < self.ready:
            return self.doing
        return TERMINATED if self.doing == TERMINATING else READY

    def shown_at(self, now: datetime) -> bool:
        """Whether it is still listed: a terminated one is for an hour."""
        return self.doing != TERMINATING or self.ready is None or now < self.ready + SHOWN


@dataclass(slots=True)
class BeanstalkState:
    """Applications by name, and environments by id: the name of a terminated one may be given again."""

    applications: dict[str, Application] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    def find(self, now: datetime, named: str) -> Environment | None:
        """The environment of that id, or the one of that name that is not terminated (else the last that was)."""
        found = [each for each in self.environments.values() if named in (each.id, each.name) and each.shown_at(now)]
        return next((each for each in found if each.status_at(now) != TERMINATED), found[-1] if found else None)
