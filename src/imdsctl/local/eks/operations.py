"""Every operation of EKS that is here."""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.eks import read

OPERATIONS: Operations = {**read.OPERATIONS}
