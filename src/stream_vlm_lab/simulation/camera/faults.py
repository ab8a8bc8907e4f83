"""Camera faults: kinds, times and strengths; they do not depend on the events."""

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
"""Shortest and longest duration of each kind of fault, in seconds."""
FAULTS = tuple(LENGTHS_S)
"""Kinds of faults.

rolling: rows are exposed one after the other in flickering light. motion-blur, defocus, noise,
jpeg: as the names say. dropped: there is no picture. frozen: the picture from the start of the
fault is repeated with new stamps.
"""
HIDING = ("dropped", "frozen")
"""Faults that hide what happens."""
MOST_PER_MINUTE = 6.0


@dataclass(frozen=True)
class Fault:
    """One fault, from `t_start` until just before `t_end`.

    Attributes:
        kind: one of `FAULTS`.
        t_start: start in seconds.
        t_end: end in seconds.
        strength: 0.3 to 1; without effect for dropped and frozen pictures.
        style_seed: seed of small variations.
    """

    kind: str
    t_start: float
    t_end: float
    strength: float
    style_seed: int


class Faults:
    """All faults of one stream.

    Faults of one kind never overlap, and no picture is dropped while the camera is frozen.
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

    def active(self, kind: str, t_s: float) -> Fault | None:
        """The fault of `kind` at `t_s` seconds, or None."""
        begun = bisect.bisect_right(self._starts[kind], t_s)
        return (
            self._by_kind[kind][begun - 1]
            if begun and t_s < self._by_kind[kind][begun - 1].t_end
            else None
        )

    def at(self, t_s: float) -> tuple[Fault, ...]:
        """Every fault at `t_s` seconds, in the order of `FAULTS`."""
        return tuple(fault for kind in FAULTS if (fault := self.active(kind, t_s)) is not None)

    def visible_from(self, t_s: float) -> float:
        """The first time from `t_s` on at which a picture shows the scene.

        It is `t_s` itself, or the end of the faults that hide the scene at `t_s`.
        """
        while True:
            hiding = [
                fault
                for kind in HIDING
                if (fault := self.active(kind, t_s)) is not None and not _still_shows(fault, t_s)
            ]
            if not hiding:
                return t_s
            t_s = max(fault.t_end for fault in hiding)


def _still_shows(fault: Fault, t_s: float) -> bool:
    """Whether the fault still shows the scene at `t_s`: a frozen picture does at its start."""
    return fault.kind == "frozen" and t_s == fault.t_start


def plan_faults(seed: int, duration_s: float, kinds: Collection[str], per_minute: float) -> Faults:
    """Spread faults of `kinds` over a stream; the same arguments give the same faults.

    The faults of one kind do not depend on the other kinds, with one exception: a frozen picture
    that would overlap with dropped pictures is left out.

    Args:
        seed: seed of the stream.
        duration_s: length of the stream in seconds.
        kinds: kinds of faults.
        per_minute: mean rate of each kind, above 0 and at most 6; lower if faults would overlap.

    Raises:
        WorldError: a kind is unknown or the rate is out of range.
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
    # No fault in the first half second, so that a stream starts with a good picture.
    now = 0.5 + float(rng.exponential(pause_s))
    while True:
        fault = Fault(
            kind,
            round(now, 3),
            round(now + float(rng.uniform(shortest, longest)), 3),
            round(float(rng.uniform(0.3, 1.0)), 3),
            int(rng.integers(1 << 31)),
        )
        # No fault in the last second, so that hidden events become visible before the end.
        if fault.t_end > duration_s - 1.0:
            return found
        found.append(fault)
        now = fault.t_end + 0.5 + float(rng.exponential(pause_s))
