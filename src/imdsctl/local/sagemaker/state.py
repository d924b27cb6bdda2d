"""What an account's SageMaker keeps in one Region."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

PENDING = "Pending"
IN_SERVICE = "InService"
STOPPING = "Stopping"
STOPPED = "Stopped"
UPDATING = "Updating"
DELETING = "Deleting"
FAILED = "Failed"
STATUSES = (PENDING, IN_SERVICE, STOPPING, STOPPED, FAILED, DELETING, UPDATING)

IMDS = "InstanceMetadataServiceConfiguration"
MINIMUM = "MinimumInstanceMetadataServiceVersion"


@dataclass(slots=True)
class Notebook:
    """A notebook instance. `settings` are the members of DescribeNotebookInstance that are shown as they are.

    A status that passes by itself is over at `due`, and `becomes` follows: nothing has to happen meanwhile.
    """

    name: str
    arn: str
    created: datetime
    modified: datetime
    settings: dict[str, Any]
    status: str = IN_SERVICE
    becomes: str = IN_SERVICE
    due: datetime | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def status_at(self, now: datetime) -> str:
        """The status at a time."""
        return self.becomes if self.due is not None and now >= self.due else self.status

    def pass_to(self, status: str, becomes: str, due: datetime) -> None:
        """Take a status that passes."""
        self.status, self.becomes, self.due = status, becomes, due


@dataclass(slots=True)
class SagemakerState:
    """Notebook instances by name. One that was deleted is there until its deletion is over."""

    notebooks: dict[str, Notebook] = field(default_factory=dict)

    def present(self, now: datetime) -> list[Notebook]:
        """Those that are there at a time, by name."""
        return [each for _, each in sorted(self.notebooks.items()) if each.status_at(now) != GONE]


GONE = ""
"""What a notebook instance that is being deleted becomes."""


def notebook_arn(region: str, account_id: str, name: str) -> str:
    """The ARN; AWS writes the name in lower case."""
    return f"arn:aws:sagemaker:{region}:{account_id}:notebook-instance/{name.lower()}"
