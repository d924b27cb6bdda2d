"""Every operation of Elastic Beanstalk that is here."""

from __future__ import annotations

from imdsctl.local.beanstalk import read, write
from imdsctl.local.call import Operations

OPERATIONS: Operations = {**read.OPERATIONS, **write.OPERATIONS}
