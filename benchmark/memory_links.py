"""How often the memory is right that two events happened to one and the same thing; JSON and a
table.

A robot visits twelve simulated rooms twice, for twenty minutes each: what happens in a room between
its two visits is not seen. Events are written through the memory's own writer in the captions of
the simulated world, as its scripts say, and again with a share of them missing, as a model misses
some. Which thing an event happens to is known from the scripts and never shown to the memory. In
this world a thing that leaves never comes back: what comes in with the same words is always
another.

Every pair of events counts: precision is the share of the pairs called one thing that are, recall
the share of the pairs of one thing that are called so.
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
from reported import reported

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.answers.event_sentence import parse_event
from stream_vlm.memory.memory import Memory
from stream_vlm.memory.search.query import MAX_LIMIT, RecallQuery, RecallRecord
from stream_vlm.types import NANOSECONDS, Frame, Pose
from stream_vlm_lab.simulation.scene.captions import PORTABLE_KINDS
from stream_vlm_lab.simulation.script.director import make_script
from stream_vlm_lab.simulation.script.script import Event

FIRST_NS = 1_700_000_000 * NANOSECONDS
ROOMS = 12
VISIT_S = 1200
VISITS = (0, 2400)
"""When the visits of a room begin, in seconds of its own script."""


@dataclass(frozen=True)
class Witnessed:
    """An event that the robot sees: in which room, during which visit, and its end (ns)."""

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


def witnessed(seed: int, events_per_minute: float) -> list[Witnessed]:
    """What the robot sees on its two rounds, in order."""
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
                        Witnessed(
                            room,
                            visit,
                            event,
                            arrived_ns + round((event.t_end - begins_s) * NANOSECONDS),
                        )
                    )
    return found


def write(memory: Memory, seen: Iterable[Witnessed]) -> None:
    """Have the memory store what was seen; each visit of a room is a session of its own."""
    image = np.zeros((48, 64, 3), np.uint8)
    session = ""
    for number, one in enumerate(seen):
        if session != (session := f"visit-{one.visit}-room-{one.room}"):
            memory.begin_session(session, "simulated", "a new room", one.end_ns)
        frame = Frame(
            "front", one.end_ns, "front_optical", image, Pose("map", 5.0 * one.room, 0.0, 0.0)
        )
        began_ns = one.end_ns - round((one.event.t_end - one.event.t_start) * NANOSECONDS)
        memory.write(reported(session, number, frame, one.event.label, began_ns))


def remembered(memory: Memory) -> list[RecallRecord]:
    """Every event of the memory, oldest first."""
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
    """How many pairs there are within equal values."""
    return sum(comb(number, 2) for number in Counter(groups).values())


def linked(seen: Sequence[Witnessed], called: Sequence[Hashable]) -> dict[str, float]:
    """Precision and recall of pairs, where `called` says for each of `seen` which thing it was
    taken for.
    """
    both = pairs((one.thing, name) for one, name in zip(seen, called, strict=True))
    said, true = pairs(called), pairs(one.thing for one in seen)
    return {
        "precision": both / said if said else 1.0,
        "recall": both / true if true else 1.0,
        "pairs": true,
    }


def words_of(one: Witnessed) -> Hashable:
    what = parse_event(one.event.label)
    return (what.noun, what.words) if what else one


def examine(seen: Sequence[Witnessed]) -> dict[str, dict[str, dict[str, float]]]:
    """By scheme and by kind of thing, how well `seen` is linked."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(MemorySettings(path=f"{folder}/memory.db", thumbnail_period_s=3600)) as memory,
    ):
        write(memory, seen)
        records = remembered(memory)
    assert [record.text for record in records] == [one.event.label for one in seen], (
        "every event is stored once, in its order"
    )
    by_rule = {one: record.object_id for one, record in zip(seen, records, strict=True)}
    schemes: dict[str, Callable[[Witnessed], Hashable]] = {
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
            group: linked(members, [name(one) for one in members])
            for group, members in groups.items()
        }
    sure = [record.object_confidence >= 0.9 for record in records]
    table["the rule, where it is 0.9 sure"] = {
        "all": linked(
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
        help="share of events that the second memory does not hear of",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/bench/memory-links.json"))
    arguments = parser.parse_args()
    seen = witnessed(arguments.seed, arguments.events_per_minute)
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
