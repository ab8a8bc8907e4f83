"""What happens in each life of the node, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

TICK_S = 10
"""Simulated seconds between two ticks of the node: `stream.rate_hz` is 0.1, its lowest value."""
SHORTEST_S = 4 * TICK_S
WATCHING, LOOP, DEACTIVATE, CLEANUP, FULL_DISK, NO_ODOMETRY, NO_CAMERAS, PAUSE = PHASES = (
    "watching",
    "recording loops",
    "deactivate and activate",
    "cleanup and configure",
    "full disk",
    "odometry gap",
    "no cameras",
    "clock stands still",
)
"""What a phase is about; cameras, parameters and requests change in every phase."""


@dataclass(frozen=True)
class Phase:
    """A part of a life; `seconds` of simulated time, a multiple of `TICK_S`."""

    what: str
    seconds: int


@dataclass(frozen=True)
class Life:
    """One life of the node, from its start to `kill -9`.

    Attributes:
        phases: in this order.
        far: whether a camera and a client live behind the slow link.
    """

    phases: tuple[Phase, ...]
    far: bool

    @property
    def seconds(self) -> int:
        """Simulated length."""
        return sum(phase.seconds for phase in self.phases)


def plan(seed: int, lives: int, seconds: int) -> list[Life]:
    """Draw the lives of a day.

    Args:
        seed: the same seed gives the same lives.
        lives: how many.
        seconds: simulated length of each; at least `shortest_life()`.

    Raises:
        ValueError: a life is too short for its phases.
    """
    if seconds < shortest_life():
        raise ValueError(
            f"a life of {seconds} s is too short for its phases; it takes {shortest_life()} s:"
            " run more hours, or fewer lives (--lives)"
        )
    rng = random.Random(seed)
    # One life with the slow link in every twelve, and at least one.
    first_far = rng.randrange(min(lives, 12))
    planned = []
    for number in range(lives):
        order = [*PHASES[1:]]
        rng.shuffle(order)
        # The last phase is an ordinary one, so that everything is stored before the kill.
        names = [WATCHING, *order, WATCHING]
        shares = [rng.uniform(0.5, 1.5) for _ in names]
        spare = (seconds - SHORTEST_S * len(names)) // TICK_S
        ticks = [int(spare * share / sum(shares)) for share in shares]
        ticks[0] += spare - sum(ticks)
        phases = tuple(
            Phase(name, SHORTEST_S + TICK_S * extra)
            for name, extra in zip(names, ticks, strict=True)
        )
        planned.append(Life(phases, far=number % 12 == first_far))
    return planned


def shortest_life() -> int:
    """The shortest life that has every phase, in simulated seconds."""
    return SHORTEST_S * (len(PHASES) + 1)
