"""The writes of our own that concern metadata services, by action."""

from __future__ import annotations

from imdsctl.local.call import Operation, Operations
from imdsctl.local.ec2 import notices
from imdsctl.local.metadata.counts import record_metadata_calls
from imdsctl.local.metadata.identity import keep_identity_keys

OPERATIONS: Operations = {
    "AnnounceInterruption": Operation(notices.announce_interruption, writes=True),
    "RecommendRebalance": Operation(notices.recommend_rebalance, writes=True),
    "ScheduleEvent": Operation(notices.schedule_event, writes=True),
    "CancelEvent": Operation(notices.cancel_event, writes=True),
    "KeepIdentityKeys": Operation(keep_identity_keys, writes=True),
    "RecordMetadataCalls": Operation(record_metadata_calls, writes=True),
}
