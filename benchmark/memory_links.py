"""Measures how well the memory recognises that two events are about the same object.

A robot visits twelve simulated rooms twice, for twenty minutes each. It does not see what happens
between the two visits. Events are written through the memory's own writer in the captions of the
simulated world, once exactly as its scripts say, and once with a share of them missing, as a model
would miss some. The scripts say which object an event belongs to; the memory never gets this. In
this world an object that leaves never comes back: an object that comes in with the same words is
always another one.

Every pair of events counts. Precision is the share of correct pairs among those that are linked;
recall is the share of linked pairs among those that belong to the same object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
from event_step import event_step

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.event_sentence import parse_event
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import MAX_LIMIT, RecallQuery, RecallRecord
from stream_vlm.types import NANOSECONDS, Frame, Pose
from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.simulation.script.script import Event
from stream_vlm_lab.simulation.script.script_writer import make_script

FIRST_NS = 1_700_000_000 * NANOSECONDS
ROOMS = 12
VISIT_S = 1200
VISITS = (0, 2400)
"""Start of the visits of a room, in seconds of its own script."""


@dataclass(frozen=True)
class SeenEvent:
    """An event that the robot sees.

    Attributes:
        room: number of the room.
        visit: number of the visit.
        event: the event.
        end_ns: end of the event in ns.
    """

    room: int
    visit: int
    event: Event
    end_ns: int

    @property
    def thing(self) -> tuple[int, int]:
        return self.room, self.event.instance

    @property
    def group(self) -> str:
        if self.event.kind in PORTABLE_KINDS:
            return "portable things"
        return "people" if self.event.kind == "person" else "doors and lamps"


def seen_events(seed: int, events_per_minute: float) -> list[SeenEvent]:
    """The events that the robot sees on its two visits of each room, in order."""
    scripts = [
        make_script(seed * 1000 + room, max(VISITS) + VISIT_S, events_per_minute=events_per_minute)
        for room in range(ROOMS)
    ]
    found = []
    for visit, begins_s in enumerate(VISITS):
        for room, script in enumerate(scripts):
            arrived_ns = FIRST_NS + (visit * ROOMS + room) * VISIT_S * NANOSECONDS
            for event in script.events:
                if begins_s <= event.t_start and event.t_end < begins_s + VISIT_S:
                    found.append(
                        SeenEvent(
                            room,
                            visit,
                            event,
                            arrived_ns + round((event.t_end - begins_s) * NANOSECONDS),
                        )
                    )
    return found


def write(memory: Memory, seen: Iterable[SeenEvent]) -> None:
    """Write the seen events into the memory; each visit of a room is a session."""
    image = np.zeros((48, 64, 3), np.uint8)
    session = ""
    for number, one in enumerate(seen):
        if session != (session := f"visit-{one.visit}-room-{one.room}"):
            memory.begin_session(session, "simulated", "a new room", one.end_ns)
        frame = Frame(
            "front", one.end_ns, "front_optical", image, Pose("map", 5.0 * one.room, 0.0, 0.0)
        )
        began_ns = one.end_ns - round((one.event.t_end - one.event.t_start) * NANOSECONDS)
        memory.write(event_step(session, number, frame, one.event.label, began_ns))


def stored_events(memory: Memory) -> list[RecallRecord]:
    """Every event in the memory, oldest first."""
    records: list[RecallRecord] = []
    while True:
        start_ns = records[-1].end_ns + 1 if records else None
        found = memory.recall(
            RecallQuery(kinds=("event",), order="oldest", start_ns=start_ns, limit=MAX_LIMIT)
        ).records
        records += found
        if len(found) < MAX_LIMIT:
            return records


def pairs(groups: Iterable[Hashable]) -> int:
    """Number of pairs of equal values."""
    return sum(comb(number, 2) for number in Counter(groups).values())


def pair_scores(seen: Sequence[SeenEvent], called: Sequence[Hashable]) -> dict[str, float]:
    """Precision and recall of pairs; `called` has the linked object for each of `seen`."""
    both = pairs((one.thing, name) for one, name in zip(seen, called, strict=True))
    said, true = pairs(called), pairs(one.thing for one in seen)
    return {
        "precision": both / said if said else 1.0,
        "recall": both / true if true else 1.0,
        "pairs": true,
    }


def words_of(one: SeenEvent) -> Hashable:
    what = parse_event(one.event.label)
    return (what.noun, what.words) if what else one


def examine(seen: Sequence[SeenEvent]) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of each linking scheme for each kind of object."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(MemorySettings(path=f"{folder}/memory.db", thumbnail_period_s=3600)) as memory,
    ):
        write(memory, seen)
        records = stored_events(memory)
    assert [record.text for record in records] == [one.event.label for one in seen], (
        "every event is stored once, in its order"
    )
    by_rule = {one: record.object_id for one, record in zip(seen, records, strict=True)}
    schemes: dict[str, Callable[[SeenEvent], Hashable]] = {
        "the rule": by_rule.__getitem__,
        "same words": words_of,
        "same words, same visit": lambda one: (words_of(one), one.room, one.visit),
        "same words, same room": lambda one: (words_of(one), one.room),
    }
    table = {}
    for scheme, name in schemes.items():
        groups = {"all": list(seen)}
        for one in seen:
            groups.setdefault(one.group, []).append(one)
        table[scheme] = {
            group: pair_scores(members, [name(one) for one in members])
            for group, members in groups.items()
        }
    sure = [record.object_confidence >= 0.9 for record in records]
    table["the rule, confidence >= 0.9"] = {
        "all": pair_scores(
            [one for one, is_sure in zip(seen, sure, strict=True) if is_sure],
            [by_rule[o] for o, s in zip(seen, sure, strict=True) if s],
        )
    }
    return table


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events-per-minute", type=float, default=4.0)
    parser.add_argument(
        "--missed",
        type=float,
        default=0.2,
        help="share of events that are missing in the second memory",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/bench/memory-links.json"))
    arguments = parser.parse_args()
    seen = seen_events(arguments.seed, arguments.events_per_minute)
    rng = random.Random(arguments.seed)
    some = [one for one in seen if rng.random() >= arguments.missed]
    report = {
        "every event": examine(seen),
        f"{arguments.missed:.0%} of the events missed": examine(some),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"events": len(seen), "seed": arguments.seed, **report}, indent=2) + "\n",
        encoding="utf-8",
    )
    for heard, table in report.items():
        groups = list(table["the rule"])
        print(f"{heard} (precision / recall of pairs, %)")
        print("".join(["scheme".ljust(32), *(group.rjust(18) for group in groups)]))
        for scheme, by in table.items():
            print(
                scheme.ljust(32)
                + "".join(
                    f"{by[g]['precision']:.1%} / {by[g]['recall']:.1%}".rjust(18)
                    for g in groups
                    if g in by
                )
            )
    print(f"{len(seen)} events; written to {arguments.out}")


if __name__ == "__main__":
    main()
