"""Which Regions of the generated fleet have something of another service: random numbers of each service's own.

Nothing is taken from the Region's random numbers (`region_generator.py`), so that a service which is added changes
nothing that a seed gave before; and nothing is made before the service is asked.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imdsctl.local.world import World


def numbers_of(world: World, account_id: str, region: str, service: str, share: float) -> random.Random | None:
    """The service's random numbers in a Region; None where it has nothing.

    It has something in a `share` (0 to 1) of the Regions that have a fleet: not in those outside the spec's, in
    suspended accounts, or in accounts that CreateAccount made.
    """
    account = world.accounts[account_id]
    if region not in world.spec.regions or account.state != "ACTIVE" or not account.access_key_id:
        return None
    numbers = random.Random(f"{world.spec.seed}/{account_id}/{region}/{service}")
    return numbers if numbers.random() < share else None


def hex_digits(numbers: random.Random, digits: int) -> str:
    """`digits` lower-case hexadecimal digits."""
    return f"{numbers.getrandbits(4 * digits):0{digits}x}"


def uuid_of(numbers: random.Random) -> str:
    """A UUID's 36 characters."""
    digits = hex_digits(numbers, 32)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
