"""TerminateInstances, and what is launched in the place of what was terminated.

Source: EC2 API Reference, TerminateInstances; EC2 User Guide, "How Spot Instances work" (a persistent request launches
again) and "EC2 Fleet request types" (a fleet of type maintain replaces what it lost).
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2 import fleet_upkeep, lifecycle, spot_instances
from imdsctl.local.ec2.resources import SHUTTING_DOWN, TERMINATED


def terminate_instances(call: Call) -> dict[str, Any]:
    """Terminate instances, whatever their state; they stay visible for an hour.

    Raises MissingParameter, InvalidInstanceID.*, OperationNotPermitted (termination protection, managed instances).
    """
    state, instances = lifecycle.instances_of(call)
    lifecycle.check_terminable(instances)
    ended = [each for each in instances if each.state not in (SHUTTING_DOWN, TERMINATED)]
    changes = lifecycle.terminate(call, state, instances)
    spot_instances.relaunch(call, state, ended)
    fleet_upkeep.replace(call, state, ended)
    return {"TerminatingInstances": changes}


OPERATIONS = {"TerminateInstances": Operation(terminate_instances, writes=True)}
