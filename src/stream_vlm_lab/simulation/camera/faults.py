"""When and how a simulated camera fails; the spans do not depend on the events of the scene."""

from __future__ import annotations

import bisect
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from stream_vlm_lab.simulation.script.script import WorldError

LENGTHS_S = {
    "rolling": (3.0, 8.0),
    "motion-blur": (1.0, 4.0),
    "defocus": (2.0, 6.0),
    "noise": (3.0, 8.0),
    "jpeg": (3.0, 8.0),
    "dropped": (0.6, 3.0),
    "frozen": (1.0, 4.0),
}
"""How long a fault of each kind lasts, seconds: shortest and longest."""
FAULTS = tuple(LENGTHS_S)
"""rolling: rows are exposed one after the other under a light that flickers; motion-blur, defocus,
noise, jpeg: as they say; dropped: no picture comes; frozen: the picture of the fault's first moment
comes again and again with new stamps.
"""
HIDING = ("dropped", "frozen")
"""Faults that hide what happens meanwhile."""
MOST_PER_MINUTE = 6.0


@dataclass(frozen=True)
class Fault:
    """One fault, from `t_start` until just before `t_end` (seconds).

    Attributes:
        kind: one of `FAULTS`.
        strength: from 0.3 to 1; of no meaning to dropped and frozen pictures.
        look: seed of its small variations.
    """

    kind: str
    t_start: float
    t_end: float
    strength: float
    look: int


class Faults:
    """All faults of one stream.

    Those of one kind never overlap, and no picture is dropped while it is frozen.
    """

    def __init__(self, faults: Collection[Fault] = ()) -> None:
        self.all = tuple(
            sorted(faults, key=lambda fault: (fault.t_start, FAULTS.index(fault.kind)))
        )
        self._by_kind = {
            kind: [fault for fault in self.all if fault.kind == kind] for kind in FAULTS
        }
        self._starts = {
            kind: [fault.t_start for fault in mine] for kind, mine in self._by_kind.items()
        }

    def of(self, kind: str, t_s: float) -> Fault | None:
        """The fault of `kind` that holds at `t_s` seconds, or None."""
        begun = bisect.bisect_right(self._starts[kind], t_s)
        return (
            self._by_kind[kind][begun - 1]
            if begun and t_s < self._by_kind[kind][begun - 1].t_end
            else None
        )

    def at(self, t_s: float) -> tuple[Fault, ...]:
        """Every fault that holds at `t_s` seconds, in the order of `FAULTS`."""
        return tuple(fault for kind in FAULTS if (fault := self.of(kind, t_s)) is not None)

    def seen_from(self, t_s: float) -> float:
        """When a picture first shows what became true at `t_s` seconds: then, or when what hides it
        is over.
        """
        while True:
            hiding = [
                fault
                for kind in HIDING
                if (fault := self.of(kind, t_s)) is not None and not _still_shows(fault, t_s)
            ]
            if not hiding:
                return t_s
            t_s = max(fault.t_end for fault in hiding)


def _still_shows(fault: Fault, t_s: float) -> bool:
    """A frozen picture shows what was true when it froze."""
    return fault.kind == "frozen" and t_s == fault.t_start


def plan_faults(seed: int, duration_s: float, kinds: Collection[str], per_minute: float) -> Faults:
    """Spread faults of `kinds` over a stream; the same arguments give the same faults, and a kind's
    faults do not depend on the other kinds.

    Only frozen and dropped know each other: a picture that would freeze while one is dropped does
    not.

    Args:
        per_minute: of each kind on average, above 0 and up to 6, fewer where they would overlap.

    Raises:
        WorldError: an unknown kind or a rate out of range.
    """
    unknown = sorted(set(kinds) - set(FAULTS))
    if unknown:
        raise WorldError(
            f"faults: {', '.join(map(repr, unknown))} is refused; use some of {', '.join(FAULTS)}"
        )
    if not 0.0 < per_minute <= MOST_PER_MINUTE:
        raise WorldError(
            f"faults_per_minute: {per_minute} is refused; use more than 0 and at most"
            f" {MOST_PER_MINUTE:g}"
        )
    planned = {
        kind: _of_kind(kind, seed, duration_s, per_minute) for kind in FAULTS if kind in kinds
    }
    if set(HIDING) <= planned.keys():
        dropped = planned["dropped"]
        planned["frozen"] = [
            frozen
            for frozen in planned["frozen"]
            if not any(
                drop.t_start <= frozen.t_end and frozen.t_start <= drop.t_end for drop in dropped
            )
        ]
    return Faults([fault for mine in planned.values() for fault in mine])


def _of_kind(kind: str, seed: int, duration_s: float, per_minute: float) -> list[Fault]:
    rng = np.random.default_rng([seed, 0xFA17, FAULTS.index(kind)])
    shortest, longest = LENGTHS_S[kind]
    pause_s = max(0.5, 60 / per_minute - (shortest + longest) / 2)
    found: list[Fault] = []
    # The first pictures are whole, so that a stream begins when it begins.
    now = 0.5 + float(rng.exponential(pause_s))
    while True:
        fault = Fault(
            kind,
            round(now, 3),
            round(now + float(rng.uniform(shortest, longest)), 3),
            round(float(rng.uniform(0.3, 1.0)), 3),
            int(rng.integers(1 << 31)),
        )
        # The last second is whole: whatever was hidden comes to light before the stream ends.
        if fault.t_end > duration_s - 1.0:
            return found
        found.append(fault)
        now = fault.t_end + 0.5 + float(rng.exponential(pause_s))
