"""The gate of a sweep: wide where answers are late because they come from far, narrow where they queue."""

from __future__ import annotations

import asyncio

from imdsctl.fleet.pace import TARGETS_AT_FIRST, TARGETS_LEAST, Pace

FAR = ("ap-southeast-2", "DescribeInstances")


def answers(pace: Pace, seconds: float, rounds: int) -> None:
    for _ in range(rounds):
        for _ in range(pace.width):
            pace.answered(*FAR, seconds)


def test_answers_that_are_late_but_not_later_than_ever_widen_it_to_its_bound() -> None:
    pace = Pace(400)
    answers(pace, 0.3, rounds=4)
    assert pace.width == 400


def test_answers_that_queue_narrow_it_and_one_slow_operation_does_not() -> None:
    pace = Pace(400)
    pace.answered("eu-west-1", "GetInstanceMetadataDefaults", 0.01)
    answers(pace, 3.0, rounds=1)  # another kind: slow, yet as soon as ever
    assert pace.width > TARGETS_AT_FIRST
    pace.answered(*FAR, 0.01)
    answers(pace, 3.0, rounds=40)
    assert pace.width == TARGETS_LEAST


def test_between_the_two_it_stays() -> None:
    pace = Pace(400)
    pace.answered(*FAR, 0.1)
    answers(pace, 0.5, rounds=5)
    assert pace.width == TARGETS_AT_FIRST


def test_no_more_are_inside_than_it_is_wide_and_one_that_gives_up_gives_its_place_on() -> None:
    async def run() -> None:
        pace = Pace(2)
        await pace.enter()
        await pace.enter()
        third, fourth = asyncio.ensure_future(pace.enter()), asyncio.ensure_future(pace.enter())
        await asyncio.sleep(0)
        assert not third.done()
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        pace.leave()
        await asyncio.wait_for(fourth, 10)
        pace.leave()
        pace.leave()
        await asyncio.wait_for(pace.enter(), 10)

    asyncio.run(run())
