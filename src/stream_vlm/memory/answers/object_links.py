"""Link events to objects: is it the same object again, or another one of its kind?

An event is compared with the objects that were seen before under the same noun. Each gets a weight,
the product of

- change: how well the event follows the last event of the object (`FITS`). What is present can
  leave, and what was picked up can be put down. What left cannot be put down before it came back.
  What is present cannot come in: that is a second object.
- words: 1 if both have the same other words, `FEWER_WORDS` if all words of one are among those of
  the other, else 0.
- time: half after each `HALF_LIFE_S`; for coming back, half after each `BACK_HALF_LIFE_S`.
- place: exp(-(d / `PLACE_M`)²) for the distance d between the robot's positions, where both are
  known and can be compared (see `place_frames`); `OTHER_CAMERA` for another camera.
- session: in another session any change can follow any other, because nothing is known of the time
  between (`OTHER_SESSION`, or less if it had left).
- picture, if several fit: half for each `COSINE_HALVES_WEIGHT` by which the cosine of its picture
  is below the highest cosine.

An object that was never seen before has the weight `NEW`. The highest weight wins, and among equal
ones the newest object. The confidence is its share of the sum of all weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlite_utils import Database

from stream_vlm.config.map_frames import bare, is_map
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
"""After these changes an object is present (or open, or on)."""

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
"""Weights by the last change of an object and the new change; `MISFIT` where there is none."""

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
"""Weight of a new object by change: objects that leave were mostly seen coming before."""

FEWER_WORDS = 0.4
OTHER_CAMERA = 0.3
OTHER_SESSION = 0.3
LEFT_IN_ANOTHER_SESSION = 0.05
PLACE_M = 2.0
HALF_LIFE_S = 6 * 3600.0
BACK_HALF_LIFE_S = 30.0
COSINE_HALVES_WEIGHT = 0.05

MAX_COMPARED = 200
"""At most so many of the newest events under one noun are compared."""


@dataclass(frozen=True)
class Sighting:
    """One event of an object: what happened, where and when.

    Attributes:
        what: the parsed event.
        camera: name of the camera.
        session_id: the session.
        end_ns: end of the event, ns on the clock of the session.
        pose_frame: frame of the robot's pose, or None.
        x: of the robot, metres, or None.
        y: of the robot, metres, or None.
    """

    what: ParsedEvent
    camera: str
    session_id: str
    end_ns: int
    pose_frame: str | None
    x: float | None
    y: float | None


@dataclass(frozen=True)
class KnownObject:
    """An object and its newest event."""

    object_id: int
    seen: Sighting
    picture_id: int | None


def link(
    db: Database,
    record_id: int,
    text: str,
    vector: Vectors | None,
    map_frames: Sequence[str],
) -> None:
    """Link the event `record_id` to an object, within the caller's transaction.

    Nothing is stored if `text` cannot be parsed.

    Args:
        db: the connection that writes.
        record_id: the event.
        text: its sentence.
        vector: of its picture, length 1, of the model of its session; None without a picture.
        map_frames: the setting `memory.map_frames`.
    """
    what = parse_event(text)
    if what is None:
        return
    where = "SELECT camera, session_id, end_ns, pose_frame, x, y, model_id FROM record WHERE id = ?"
    *rest, model_id = db.execute(where, [record_id]).fetchone()
    now = Sighting(what, *rest)
    known = _known(db, what.noun, record_id)
    weights = [weight(one.seen, now, map_frames) for one in known]
    if vector is not None and sum(found > 0.0 for found in weights) > 1:
        weights = [
            found * factor
            for found, factor in zip(
                weights, _picture_factors(db, known, vector, model_id), strict=True
            )
        ]
    new = NEW[what.change]
    best = max(range(len(weights)), key=weights.__getitem__, default=-1)
    if best >= 0 and weights[best] > new:
        object_id, heaviest = known[best].object_id, weights[best]
    else:
        object_id, heaviest = (
            int(db.execute("INSERT INTO thing (begun_ns) VALUES (?)", [now.end_ns]).lastrowid or 0),
            new,
        )
    db.execute(
        "INSERT INTO sighting (record_id, thing_id, noun, words, change, confidence) VALUES (?, ?,"
        " ?, ?, ?, ?)",
        [
            record_id,
            object_id,
            what.noun,
            " ".join(what.words),
            what.change,
            heaviest / (new + sum(weights)),
        ],
    )


def relink(db: Database, map_frames: Sequence[str]) -> int:
    """Delete all links and compute them again, within the caller's transaction.

    Args:
        db: the connection that writes.
        map_frames: the setting `memory.map_frames`.

    Returns:
        How many events are linked.
    """
    db.execute("DELETE FROM sighting")
    for number, text in db.execute(
        "SELECT id, text FROM record WHERE kind = 'event' ORDER BY id"
    ).fetchall():
        link(db, number, text, _vector_of(db, number), map_frames)
    return int(db.execute("SELECT count(*) FROM sighting").fetchone()[0])


def weight(before: Sighting, now: Sighting, map_frames: Sequence[str] = ()) -> float:
    """Return how well `now` fits the object last seen as `before`: the rule without pictures.

    Args:
        before: the last event of the object.
        now: the new event.
        map_frames: the setting `memory.map_frames`.
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
        * math.pow(0.5, elapsed_s / half_life_s)
        * _place(before, now, map_frames)
    )
    return found if before.camera == now.camera else found * OTHER_CAMERA


def _words(before: set[str], now: set[str]) -> float:
    if before == now:
        return 1.0
    return FEWER_WORDS if before < now or now < before else 0.0


def _place(before: Sighting, now: Sighting, map_frames: Sequence[str]) -> float:
    if (
        before.x is None
        or before.y is None
        or now.x is None
        or now.y is None
        or bare(before.pose_frame or "") != bare(now.pose_frame or "")
        # Odometry begins anew in each session.
        or (before.session_id != now.session_id and not is_map(now.pose_frame or "", map_frames))
    ):
        return 1.0
    return math.exp(-(((now.x - before.x) ** 2 + (now.y - before.y) ** 2) / PLACE_M**2))


def _known(db: Database, noun: str, record_id: int) -> list[KnownObject]:
    """Return the objects seen under `noun` before record `record_id`, newest first."""
    rows = db.execute(
        "SELECT thing_id, words, change, camera, session_id, end_ns, pose_frame, x, y, picture_id"
        " FROM sighting JOIN record ON record.id = record_id WHERE noun = ? AND record_id < ? ORDER"
        " BY record_id DESC LIMIT ?",
        [noun, record_id, MAX_COMPARED],
    )
    known: dict[int, KnownObject] = {}
    for (
        object_id,
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
        known.setdefault(object_id, KnownObject(object_id, seen, picture_id))
    return list(known.values())


def _picture_factors(
    db: Database, known: list[KnownObject], vector: Vectors, model_id: str
) -> list[float]:
    """Return for each of `known` the factor of its picture, compared with `vector`.

    The most similar picture has the factor 1, and so has an object without a comparable picture.
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
    highest = max((cosine for cosine in cosines if cosine is not None), default=0.0)
    return [
        1.0 if cosine is None else 0.5 ** ((highest - cosine) / COSINE_HALVES_WEIGHT)
        for cosine in cosines
    ]


def _vector_of(db: Database, record_id: int) -> Vectors | None:
    row = db.execute(
        "SELECT halves FROM record JOIN picture_vector USING (picture_id) JOIN vector_model ON"
        " vector_model.id = vector_model_id AND name = model_id WHERE record.id = ?",
        [record_id],
    ).fetchone()
    return None if row is None else np.frombuffer(row[0], "<f2").astype(np.float32)
