"""The pixels and labels of a seed never change: trainings and published results depend on them."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

import cv2
import pytest

from stream_vlm_lab.evaluation.simulated.exam import truth_of
from stream_vlm_lab.simulation.labels.ground_truth import labels_document, questions, tick_states
from stream_vlm_lab.simulation.scene.captions import vocabulary
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED
from stream_vlm_lab.simulation.script.script_writer import make_script
from stream_vlm_lab.simulation.world import World
from stream_vlm_lab.training.shipped_model import rendering

SIZE = (192, 128)
MOMENTS = (0.0, 3.3, 12.25, 19.9)
PIXELS_ARE_OURS = pytest.mark.skipif(
    not cv2.__version__.startswith("5.0.0") or platform.machine() != "x86_64",
    reason="other builds of OpenCV round pixels differently; the digests are of 5.0.0 on x86-64",
)


def digest(*parts: Any) -> str:
    """Short digest of plain values and arrays."""
    made = hashlib.sha256()
    for part in parts:
        made.update(
            part.tobytes()
            if hasattr(part, "tobytes")
            else json.dumps(part, sort_keys=True).encode()
        )
    return made.hexdigest()[:16]


LABELS: dict[int, str] = {
    0: "a573de4dc9faa507",
    5: "37c0ac13cde8ac48",
    11: "73bf8ed0046e1344",
    12: "4450ce0e44b0a863",
    1000000: "21b88cceaaaf3570",
    1000001: "09e43aa5ca9b66f6",
}
PIXELS: dict[tuple[int, str], str] = {
    (2, "seen"): "59693ed32b5d7fd8",
    (2, "unseen objects"): "c98d96756ef110ac",
    (2, "unseen backgrounds"): "d5177ad8a4274e00",
    (3, "seen"): "e7ad1a5eedb1ea37",
    (3, "unseen objects"): "df61d6cee4da8b39",
    (3, "unseen backgrounds"): "f10ecd1cce6d41ef",
    (5, "seen"): "370c33735d260f49",
    (5, "unseen objects"): "26733d93e0e9b4d4",
    (5, "unseen backgrounds"): "b49ff6c8e227807e",
    (11, "seen"): "7d75b403d38d3504",
    (11, "unseen objects"): "2937fa763e0cdedf",
    (11, "unseen backgrounds"): "769843a99d70243f",
    (1000001, "seen"): "a76faa6f0e725891",
    (1000001, "unseen objects"): "9876ebb161a92ac4",
    (1000001, "unseen backgrounds"): "e80fc2e9c461ffda",
}


@pytest.mark.parametrize("seed", LABELS)
def test_the_labels_of_a_seed_are_unchanged(seed: int) -> None:
    assert digest(labels_document(World(seed, 180.0, SIZE), 10.0)) == LABELS[seed]


@PIXELS_ARE_OURS
@pytest.mark.parametrize(("seed", "look"), PIXELS)
def test_the_pictures_of_a_seed_are_unchanged(seed: int, look: str) -> None:
    world = World(seed, 20.0, SIZE, look=look)
    views = [world.view(t_s) for t_s in MOMENTS]
    assert (
        digest(*(part for view in views for part in (view.image, view.instances)))
        == PIXELS[seed, look]
    )


def test_scripts_at_every_event_rate_are_unchanged() -> None:
    made: list[Any] = []
    for seed in range(30):
        script = make_script(seed, 600.0, events_per_minute=(10.0, 14.0, 6.0)[seed % 3])
        made.append(
            [
                (event.label, event.t_start, event.t_end, event.instance, event.actor)
                for event in script.events
            ]
        )
        made.append(
            [
                (tick.t_s, tick.state.value, tick.text)
                for tick in tick_states(script, 2.0, offset_s=0.1)
            ]
        )
        made.append([(asked.t_s, asked.question, asked.answer) for asked in questions(script)])
    assert digest(made) == "a317ee7f430303fc"


def test_the_questions_of_an_examination_are_unchanged() -> None:
    rooms = [truth_of(World(HELD_OUT_SEED + index, 60.0, SIZE), 2.0, "room") for index in range(3)]
    made: list[Any] = [
        [(asked.t, asked.text, asked.answer, asked.kind) for asked in room.questions]
        for room in rooms
    ]
    made += [[(event.label, event.t_start, event.t_end) for event in room.events] for room in rooms]
    made += [[(state.t, state.state) for state in room.states] for room in rooms]
    assert digest(made) == "02e74d8536691e65"


@PIXELS_ARE_OURS
@pytest.mark.parametrize(
    ("look", "shown"),
    [
        ("seen", "8cdc6b3271e9b71e"),
        ("varied objects", "baae81c9ffa28209"),
        ("invented", "06e819c7687f43b0"),
    ],
)
def test_the_data_of_a_training_are_unchanged(
    look: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "APPEARANCE_SHARES", {look: 1.0})
    stream = rendering.render_stream(12, 6, 2.0, dense=True)
    assert stream.dense is not None
    parts = [
        stream.frames,
        stream.times,
        stream.dense.classes,
        stream.dense.names,
        stream.dense.motion,
        stream.dense.place,
    ]
    assert digest(*parts, [state.value for state in stream.states], stream.texts) == shown


def test_the_vocabulary_is_unchanged() -> None:
    assert digest(list(vocabulary())) == "64fefe477ff80fe8"
