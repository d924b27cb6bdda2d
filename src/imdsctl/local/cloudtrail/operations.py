"""Every operation of CloudTrail that is here."""

from __future__ import annotations

from imdsctl.local.call import Operation, Operations
from imdsctl.local.cloudtrail.lookup import lookup_events

OPERATIONS: Operations = {"LookupEvents": Operation(lookup_events)}
