"""Trusted access for AWS services, and the member accounts that administer a service for the organization.

Source: AWS Organizations API Reference; User Guide, "Using AWS Organizations with other AWS services". A delegated
administrator may read the organization, and may ask EC2 for the declarative policies' account status report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    account_of,
    invalid,
    only_administrators,
    only_management,
    paged,
    refuse,
    state_of,
    text,
    violates,
    with_token,
    written_account,
)

ADMINISTRATORS_MAX = 1
"""Of a service. AWS lets some services have more; how many is each service's affair."""
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com")


def enable_service_access(call: Call) -> Mapping[str, Any]:
    """Trust a service. Doing it twice is no mistake. Raises InvalidInputException (UNRECOGNIZED_SERVICE_PRINCIPAL)."""
    only_management(call)
    state_of(call).services.setdefault(_service(call), call.now)
    return {}


def disable_service_access(call: Call) -> Mapping[str, Any]:
    """Trust a service no more; one that was not trusted is no mistake. Its delegated administrators stay registered."""
    only_management(call)
    state_of(call).services.pop(_service(call), None)
    return {}


def list_service_access(call: Call) -> Mapping[str, Any]:
    """The services that are trusted."""
    only_administrators(call)
    listed = [{"ServicePrincipal": name, "DateEnabled": at} for name, at in state_of(call).services.items()]
    found, after = paged(call, listed)
    return with_token({"EnabledServicePrincipals": list(found)}, after)


def register_delegated_administrator(call: Call) -> Mapping[str, Any]:
    """Let a member account administer a service.

    Raises AccountNotFoundException, AccountAlreadyRegisteredException and ConstraintViolationException for the
    management account, a suspended one, a service that is not trusted, and a service that has its administrator.
    """
    only_management(call)
    account, service, state = account_of(call), _service(call), state_of(call)
    if account.id == state.organization.management_id:
        raise violates(
            "CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR",
            "You cannot register master account/yourself as delegated administrator for your organization.",
        )
    if account.state != "ACTIVE":
        raise violates(
            "CANNOT_REGISTER_SUSPENDED_ACCOUNT_AS_DELEGATED_ADMINISTRATOR",
            "You cannot register a suspended account as a delegated administrator.",
        )
    if service not in state.services:
        raise violates(
            "SERVICE_ACCESS_NOT_ENABLED",
            "You attempted to register a delegated administrator before you enabled service access. Call the "
            "EnableAWSServiceAccess API first.",
        )
    if service in state.delegated.get(account.id, {}):
        raise refuse(
            "AccountAlreadyRegisteredException",
            "The provided account is already a delegated administrator for your organization.",
        )
    if sum(service in theirs for theirs in state.delegated.values()) >= ADMINISTRATORS_MAX:
        raise violates(
            "MAX_DELEGATED_ADMINISTRATORS_FOR_SERVICE_LIMIT_EXCEEDED",
            "You attempted to register more delegated administrators than allowed for the service principal.",
        )
    state.delegated.setdefault(account.id, {})[service] = call.now
    return {}


def deregister_delegated_administrator(call: Call) -> Mapping[str, Any]:
    """Take that back. Raises AccountNotFoundException and AccountNotRegisteredException."""
    only_management(call)
    account, service = account_of(call), _service(call)
    _registered(call, account.id, service)
    theirs = state_of(call).delegated
    del theirs[account.id][service]
    if not theirs[account.id]:
        del theirs[account.id]
    return {}


def list_delegated_administrators(call: Call) -> Mapping[str, Any]:
    """The delegated administrators, of one service or of all."""
    only_administrators(call)
    service = _service(call, optional=True)
    listed = [
        {
            **{name: value for name, value in written_account(call, account).items() if name != "Paths"},
            "DelegationEnabledDate": theirs[service] if service else min(theirs.values()),
        }
        for account_id, theirs in state_of(call).delegated.items()
        if not service or service in theirs
        for account in [call.world.accounts[account_id]]
    ]
    found, after = paged(call, listed, service)
    return with_token({"DelegatedAdministrators": list(found)}, after)


def list_delegated_services_for_account(call: Call) -> Mapping[str, Any]:
    """What an account administers. Raises AccountNotFoundException and AccountNotRegisteredException."""
    only_administrators(call)
    account = account_of(call)
    _registered(call, account.id)
    theirs = state_of(call).delegated[account.id]
    listed = [{"ServicePrincipal": name, "DelegationEnabledDate": at} for name, at in theirs.items()]
    found, after = paged(call, listed, account.id)
    return with_token({"DelegatedServices": list(found)}, after)


def _service(call: Call, *, optional: bool = False) -> str:
    service = text(call, "ServicePrincipal", 1, 128, optional=optional)
    if service is not None and not _SERVICE.fullmatch(service):
        raise invalid("UNRECOGNIZED_SERVICE_PRINCIPAL", "You specified an unrecognized service principal.")
    return service or ""


def _registered(call: Call, account_id: str, service: str | None = None) -> None:
    theirs = state_of(call).delegated.get(account_id, {})
    if not theirs or (service is not None and service not in theirs):
        raise refuse(
            "AccountNotRegisteredException",
            "The provided account is not a registered delegated administrator for your organization.",
        )


OPERATIONS: Operations = {
    "EnableAWSServiceAccess": Operation(enable_service_access, writes=True),
    "DisableAWSServiceAccess": Operation(disable_service_access, writes=True),
    "ListAWSServiceAccessForOrganization": Operation(list_service_access),
    "RegisterDelegatedAdministrator": Operation(register_delegated_administrator, writes=True),
    "DeregisterDelegatedAdministrator": Operation(deregister_delegated_administrator, writes=True),
    "ListDelegatedAdministrators": Operation(list_delegated_administrators),
    "ListDelegatedServicesForAccount": Operation(list_delegated_services_for_account),
}
