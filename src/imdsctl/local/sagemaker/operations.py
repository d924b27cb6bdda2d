"""Every operation of SageMaker that is here."""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.sagemaker import read, write

OPERATIONS: Operations = {**read.OPERATIONS, **write.OPERATIONS}
