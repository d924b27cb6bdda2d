"""Every operation of SQS that is here."""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.sqs import messages, queues

OPERATIONS: Operations = {**queues.OPERATIONS, **messages.OPERATIONS}
