"""Amazon EC2 Auto Scaling of the local AWS: launch configurations, groups, activities, instance refreshes.

Handlers change what a group should be. `reconcile` brings it about, by the same launch code as RunInstances, as the
service-linked role: when it is due, in the order of time, so that a replay of the writes makes the same instances.
"""

from __future__ import annotations

from imdsctl.local.autoscaling import (
    activities,
    configurations,
    descriptions,
    groups,
    members,
    processes,
    refreshes,
    tags,
)
from imdsctl.local.call import Operations

OPERATIONS: Operations = {
    **configurations.OPERATIONS,
    **groups.OPERATIONS,
    **members.OPERATIONS,
    **processes.OPERATIONS,
    **activities.OPERATIONS,
    **refreshes.OPERATIONS,
    **tags.OPERATIONS,
    **descriptions.OPERATIONS,
}
