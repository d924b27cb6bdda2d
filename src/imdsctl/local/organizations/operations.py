"""`OPERATIONS` joins the rooms of this package."""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.organizations import accounts, attachments, creations, effective, policies, services, tags, units

OPERATIONS: Operations = {
    **units.OPERATIONS,
    **accounts.OPERATIONS,
    **creations.OPERATIONS,
    **policies.OPERATIONS,
    **attachments.OPERATIONS,
    **effective.OPERATIONS,
    **services.OPERATIONS,
    **tags.OPERATIONS,
}
