"""The writes of our own that concern metadata services, by action."""

from __future__ import annotations

from imdsctl.local.call import Operation, Operations
from imdsctl.local.metadata.counts import record_metadata_calls

OPERATIONS: Operations = {
    "RecordMetadataCalls": Operation(record_metadata_calls, writes=True),
}
