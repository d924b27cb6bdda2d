"""AWS IAM of the local AWS: users, access keys, roles, managed policies, instance profiles.

A global service: one state for each account (`World.iam`), whatever Region the request is signed for. What policies
mean for a request is not decided here.
"""

from __future__ import annotations

from imdsctl.local.call import Operations
from imdsctl.local.iam import policies, profiles, roles, users

OPERATIONS: Operations = {
    **users.OPERATIONS,
    **roles.OPERATIONS,
    **policies.OPERATIONS,
    **profiles.OPERATIONS,
}
