"""Which permissions a call needs: the tables agree with what is implemented."""

from __future__ import annotations

from imdsctl.local import ec2
from imdsctl.local.authorization.ec2 import PARAMETERS, TOUCHED
from imdsctl.local.ec2.tags import RESOURCE_TYPES

ON_EVERYTHING = {
    # The Service Authorization Reference gives these no resource type.
    "ModifyInstanceMetadataDefaults",
    "ModifyManagedResourceVisibility",
    # Its reports have ids that nobody writes into a policy.
    "StartDeclarativePoliciesReport",
    "CancelDeclarativePoliciesReport",
    # Rooms of their own.
    "CreateTags",
    "DeleteTags",
    "RunInstances",
}


def test_every_write_of_ec2_says_what_it_is_tested_on() -> None:
    """One that is forgotten would be tested on `*`, and a policy about instances would not bind it."""
    writes = {name for name, operation in ec2.OPERATIONS.items() if operation.writes}
    assert writes - TOUCHED.keys() - ON_EVERYTHING == set()


def test_what_is_tested_on_resources_is_there() -> None:
    assert TOUCHED.keys() - ec2.OPERATIONS.keys() == set()


def test_every_type_has_parameters_that_name_it_and_is_one_of_ec2s() -> None:
    named = {kind.removeprefix("+") for kinds in TOUCHED.values() for kind in kinds}
    existing = {kind for kinds in TOUCHED.values() for kind in kinds if not kind.startswith("+")}
    assert existing <= PARAMETERS.keys()
    assert named <= set(RESOURCE_TYPES.values())
