"""Repeated sightings: is it the same thing again, or another like it?

A stated rule, and how sure it is.

An event is compared with what was seen before under the same noun. Each of those things gets a
weight, the product of

- how well the event goes on from what last happened to it (`FITS`): what is there can leave, what
  was picked up can be put down, what left cannot be put down without having come back, and what is
  there already cannot come in: that is another one, and both are there at once;
- words: as many other words are said of both 1, all words of the one among those of the other
  `FEWER_WORDS`, else it is another thing;
- time: half after each `HALF_LIFE_S`; coming back, half after each `BACK_HALF_LIFE_S`;
- place: exp(-(d / `PLACE_M`)²) for the distance d of the robot's places, where both are known;
  another camera `OTHER_CAMERA`;
- session: in another session nothing is known of what happened between, and any change goes on from
  any (`OTHER_SESSION`, less where it had left);
- looks, where several fit: half for every `COSINE_HALVES_WEIGHT` by which a picture's cosine is below that of the
  likest.

A thing never seen before has the weight of `NEW`. The heaviest wins, the newest of equals; how sure
that is, is its share of all weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from sqlite_utils import Database

from stream_vlm.memory.answers.event_sentence import (
    COMES,
    GOES,
    OFF,
    ON,
    PICKED_UP,
    PUT_DOWN,
    SEEN,
    TAKEN,
    ParsedEvent,
    parse_event,
)
from stream_vlm.memory.search.vectors import Vectors
from stream_vlm.types import NANOSECONDS

PRESENT_AFTER = (COMES, PUT_DOWN, SEEN, ON)
"""After these a thing is there (or open, or on)."""

FITS = {
    COMES: {COMES: 0.05, PUT_DOWN: 0.1, SEEN: 1.0, GOES: 1.0, TAKEN: 1.0, PICKED_UP: 1.0},
    PUT_DOWN: {COMES: 0.05, PUT_DOWN: 0.1, SEEN: 1.0, GOES: 1.0, TAKEN: 1.0, PICKED_UP: 1.0},
    SEEN: {COMES: 0.05, PUT_DOWN: 0.1, SEEN: 1.0, GOES: 1.0, TAKEN: 1.0, PICKED_UP: 1.0},
    PICKED_UP: {COMES: 0.1, PUT_DOWN: 1.0, SEEN: 0.5, GOES: 0.5, TAKEN: 0.5, PICKED_UP: 0.2},
    GOES: {COMES: 1.5, PUT_DOWN: 0.02, SEEN: 0.1, GOES: 0.02, TAKEN: 0.02, PICKED_UP: 0.02},
    TAKEN: {COMES: 1.5, PUT_DOWN: 0.02, SEEN: 0.1, GOES: 0.02, TAKEN: 0.02, PICKED_UP: 0.02},
    ON: {ON: 1.0, OFF: 1.0, SEEN: 1.0},
    OFF: {ON: 1.0, OFF: 1.0, SEEN: 1.0},
}
"""By what last happened to a thing and what happens now; `MISFIT` where nothing stands."""

MISFIT = 0.1

NEW = {
    COMES: 1.0,
    PUT_DOWN: 0.3,
    SEEN: 0.3,
    GOES: 0.1,
    TAKEN: 0.1,
    PICKED_UP: 0.1,
    ON: 0.05,
    OFF: 0.05,
}
"""By what happens: how likely it happens to what was never seen before.

What leaves was mostly seen coming.
"""

FEWER_WORDS = 0.4
OTHER_CAMERA = 0.3
OTHER_SESSION = 0.3
LEFT_IN_ANOTHER_SESSION = 0.05
PLACE_M = 2.0
HALF_LIFE_S = 6 * 3600.0
BACK_HALF_LIFE_S = 30.0
COSINE_HALVES_WEIGHT = 0.05

MAX_COMPARED = 200
"""Newest sightings under one noun that are looked at."""


@dataclass(frozen=True)
class Sighting:
    """One sighting: what happened, and where and when (ns, of the session's clock)."""

    what: ParsedEvent
    camera: str
    session_id: str
    end_ns: int
    pose_frame: str | None
    x: float | None
    y: float | None


@dataclass(frozen=True)
class KnownObject:
    """The newest sighting of a thing."""

    object_id: int
    seen: Sighting
    picture_id: int | None


def link(db: Database, record_id: int, text: str, vector: Vectors | None = None) -> None:
    """Say which thing the event `record_id` happened to, within the caller's transaction; nothing
    where `text` does not tell.

    `vector` is that of its picture, of length 1, of the model of its session.
    """
    what = parse_event(text)
    if what is None:
        return
    where = "SELECT camera, session_id, end_ns, pose_frame, x, y, model_id FROM record WHERE id = ?"
    *rest, model_id = db.execute(where, [record_id]).fetchone()
    now = Sighting(what, *rest)
    known = _known(db, what.noun, record_id)
    weights = [weight(one.seen, now) for one in known]
    if vector is not None and sum(found > 0.0 for found in weights) > 1:
        weights = [
            found * factor
            for found, factor in zip(
                weights, _look_factors(db, known, vector, model_id), strict=True
            )
        ]
    new = NEW[what.change]
    best = max(range(len(weights)), key=weights.__getitem__, default=-1)
    if best >= 0 and weights[best] > new:
        thing, heaviest = known[best].object_id, weights[best]
    else:
        thing, heaviest = (
            int(db.execute("INSERT INTO thing (begun_ns) VALUES (?)", [now.end_ns]).lastrowid or 0),
            new,
        )
    db.execute(
        "INSERT INTO sighting (record_id, thing_id, noun, words, change, confidence) VALUES (?, ?,"
        " ?, ?, ?, ?)",
        [
            record_id,
            thing,
            what.noun,
            " ".join(what.words),
            what.change,
            heaviest / (new + sum(weights)),
        ],
    )


def relink(db: Database) -> int:
    """Drop all links and make them anew by today's rule, within the caller's transaction; how many
    events are linked.
    """
    db.execute("DELETE FROM sighting")
    for number, text in db.execute(
        "SELECT id, text FROM record WHERE kind = 'event' ORDER BY id"
    ).fetchall():
        link(db, number, text, _vector_of(db, number))
    return int(db.execute("SELECT count(*) FROM sighting").fetchone()[0])


def weight(before: Sighting, now: Sighting) -> float:
    """How well `now` is another sighting of the thing that was last seen as `before`; the rule of
    this file but for looks.
    """
    fits = LEFT_IN_ANOTHER_SESSION if before.what.change in (GOES, TAKEN) else OTHER_SESSION
    half_life_s = HALF_LIFE_S
    if before.session_id == now.session_id:
        fits = FITS[before.what.change].get(now.what.change, MISFIT)
        if before.what.change in (GOES, TAKEN) and now.what.change == COMES:
            half_life_s = BACK_HALF_LIFE_S
    elapsed_s = abs(now.end_ns - before.end_ns) / NANOSECONDS
    found = (
        fits
        * _words(set(before.what.words), set(now.what.words))
        * 0.5 ** (elapsed_s / half_life_s)
        * _place(before, now)
    )
    return found if before.camera == now.camera else found * OTHER_CAMERA


def _words(before: set[str], now: set[str]) -> float:
    if before == now:
        return 1.0
    return FEWER_WORDS if before < now or now < before else 0.0


def _place(before: Sighting, now: Sighting) -> float:
    if (
        before.x is None
        or before.y is None
        or now.x is None
        or now.y is None
        or before.pose_frame != now.pose_frame
    ):
        return 1.0
    return math.exp(-(((now.x - before.x) ** 2 + (now.y - before.y) ** 2) / PLACE_M**2))


def _known(db: Database, noun: str, record_id: int) -> list[KnownObject]:
    """The things last seen under `noun` before the record `record_id`, the newest first."""
    rows = db.execute(
        "SELECT thing_id, words, change, camera, session_id, end_ns, pose_frame, x, y, picture_id"
        " FROM sighting JOIN record ON record.id = record_id WHERE noun = ? AND record_id < ? ORDER"
        " BY record_id DESC LIMIT ?",
        [noun, record_id, MAX_COMPARED],
    )
    known: dict[int, KnownObject] = {}
    for (
        thing,
        words,
        change,
        camera,
        session_id,
        end_ns,
        pose_frame,
        x,
        y,
        picture_id,
    ) in rows.fetchall():
        seen = Sighting(
            ParsedEvent(noun, tuple(words.split()), change),
            camera,
            session_id,
            end_ns,
            pose_frame,
            x,
            y,
        )
        known.setdefault(thing, KnownObject(thing, seen, picture_id))
    return list(known.values())


def _look_factors(
    db: Database, known: list[KnownObject], vector: Vectors, model_id: str
) -> list[float]:
    """For each of `known` how much its picture looks like `vector`, beside the one that does so
    most; 1 where that cannot be told.
    """
    cosines = []
    for one in known:
        row = db.execute(
            "SELECT halves FROM picture_vector JOIN vector_model ON vector_model.id ="
            " vector_model_id WHERE picture_id = ? AND name = ? AND size = ?",
            [one.picture_id, model_id, len(vector)],
        ).fetchone()
        cosines.append(
            None if row is None else float(np.frombuffer(row[0], "<f2").astype(np.float32) @ vector)
        )
    likest = max((cosine for cosine in cosines if cosine is not None), default=0.0)
    return [
        1.0 if cosine is None else 0.5 ** ((likest - cosine) / COSINE_HALVES_WEIGHT)
        for cosine in cosines
    ]


def _vector_of(db: Database, record_id: int) -> Vectors | None:
    row = db.execute(
        "SELECT halves FROM record JOIN picture_vector USING (picture_id) JOIN vector_model ON"
        " vector_model.id = vector_model_id AND name = model_id WHERE record.id = ?",
        [record_id],
    ).fetchone()
    return None if row is None else np.frombuffer(row[0], "<f2").astype(np.float32)
