"""The IAM that an account has before anybody wrote to it: its administrator, and the role Organizations made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imdsctl.local.iam.managed import ADMINISTRATOR_ACCESS, aws_managed_policies
from imdsctl.local.iam.state import AccessKey, IamState, Role, User

if TYPE_CHECKING:
    from imdsctl.local.world import Account, Organization

ADMIN_USER = "imdsctl-admin"


def first_state(organization: Organization, account: Account) -> IamState:
    """The IAM of an account as it was generated, or created by CreateAccount."""
    iam = IamState(account.id, aws_managed_policies())
    if account.access_key_id:
        user = User(
            name=ADMIN_USER,
            path="/",
            id=account.user_id,
            arn=f"arn:aws:iam::{account.id}:user/{ADMIN_USER}",
            created=account.joined,
            attached=[ADMINISTRATOR_ACCESS],
        )
        user.keys[account.access_key_id] = AccessKey(account.access_key_id, account.secret_access_key, account.joined)
        iam.users[ADMIN_USER.lower()] = user
    if account.id != organization.management_id and not account.refuses_role:
        name = account.role_name
        iam.roles[name.lower()] = Role(
            name=name,
            path="/",
            id=account.role_id,
            arn=f"arn:aws:iam::{account.id}:role/{name}",
            created=account.joined,
            # Organizations User Guide, "Accessing member accounts": the role carries AdministratorAccess inline.
            inline={"AdministratorAccess": _document({"Effect": "Allow", "Action": "*", "Resource": "*"})},
            trust=_document(
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{organization.management_id}:root"},
                    "Action": "sts:AssumeRole",
                }
            ),
        )
    return iam


def _document(statement: dict[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))
