"""Every operation of EKS that is here."""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.eks import clusters, nodegroups, read

OPERATIONS: Operations = {**read.OPERATIONS, **clusters.OPERATIONS, **nodegroups.OPERATIONS}
