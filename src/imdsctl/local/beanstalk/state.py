"""What an account's Elastic Beanstalk keeps in one Region."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

LAUNCH = "aws:autoscaling:launchconfiguration"
DISABLE_V1 = "DisableIMDSv1"

UPDATING = "Updating"
READY = "Ready"


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

    It launches from a launch configuration, or from a launch template once an option asked for what only a template can
    do. `ready` is when the last update is over.
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
    ready: datetime | None = None

    def status_at(self, now: datetime) -> str:
        """The status at a time."""
        return UPDATING if self.ready is not None and now < self.ready else READY


@dataclass(slots=True)
class BeanstalkState:
    """Applications and environments by name."""

    applications: dict[str, Application] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
