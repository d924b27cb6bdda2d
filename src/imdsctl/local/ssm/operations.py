"""Every operation of Systems Manager that is here. `resolve:ssm:` in an ImageId asks `resolve.py`."""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.ssm import describe, read, tags, write

OPERATIONS: Operations = {
    **read.OPERATIONS,
    **describe.OPERATIONS,
    **write.OPERATIONS,
    **tags.OPERATIONS,
}
