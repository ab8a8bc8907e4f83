"""A model for tests that sees one colour and speaks of it, and the turns to show it pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from chat_prompts import Prompt
from model_server import Words

from stream_vlm.backbone.remote.http_transport import HttpTransport
from stream_vlm.backbone.remote.model import RemoteModel
from stream_vlm.backbone.remote.stream import RemoteStream
from stream_vlm.config.settings import load_settings
from stream_vlm.model_protocol import Judgement, Outcome, Turn
from stream_vlm.types import NANOSECONDS, Frame, Instruction, Query, State, StreamError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
GREY = (128, 128, 128)


def colour_mind(prompt: Prompt) -> Words:
    """Respond where the newest picture has the colour that is watched for.

    A green picture is a standby. The words name the colour; the second look believes them with
    probability 3/4.
    """
    seen = "grey"
    if prompt.pictures:
        mean = prompt.pictures[-1].reshape(-1, 3).mean(axis=0)
        seen = next(
            (name for name, value in COLOURS.items() if np.abs(mean - value).max() < 80), "grey"
        )
    watched = re.match(r"Watch for: (?:something )?(.*)", prompt.question)
    if watched is None:
        if prompt.question.startswith("Look at the last frames again"):
            return Words("Yes", {"Yes": 0.6, "No": 0.2})
        if prompt.question.startswith("Write one of these words"):
            return Words(
                "Silence",
                {"Silence": 0.4, "Standby": 0.2, "Response": 0.2, "Yes": 0.05, "No": 0.05},
            )
        return Words(f"It is {seen}.", {"It": 0.9})
    words = f"The picture is {seen}."
    if prompt.begun:
        return Words(f" {words}", {"The": 0.9})
    if seen == watched.group(1):
        return Words(f"Response: {words}", {"Silence": 0.1, "Standby": 0.1, "Response": 0.6})
    if seen == "green":
        return Words("Standby", {"Silence": 0.2, "Standby": 0.5, "Response": 0.1})
    return Words("Silence", {"Silence": 0.8, "Standby": 0.1, "Response": 0.05})


def remote_model(url: str, key: str = "", **values: Any) -> RemoteModel:
    """The model of the server at `url`; `values` are settings, with __ for the dot."""
    settings = load_settings(
        {"model.url": url, "model.timeout_s": 20.0}
        | {name.replace("__", "."): value for name, value in values.items()}
    )
    return RemoteModel(settings, HttpTransport(url, key))


def frame(colour: str, second: float, camera: str = "front") -> Frame:
    """A picture of one colour."""
    image = np.full((112, 168, 3), COLOURS.get(colour, GREY), np.uint8)
    return Frame(camera, int(second * NANOSECONDS) + NANOSECONDS, "", image)


def watching(*texts: str, **values: Any) -> tuple[Judgement, ...]:
    """A judgement for each text; its words are its instruction's id."""
    return tuple(Judgement(Instruction(text, text), **values) for text in texts)


def one_step(
    model: RemoteModel,
    stream: RemoteStream,
    colour: str,
    second: float,
    judgements: Sequence[Judgement] = (),
    question: str = "",
) -> Outcome | StreamError:
    """Step one stream with a picture of one colour."""
    query = Query("q", question, 0) if question else None
    turn = Turn(stream, frame(colour, second), query=query, judgements=tuple(judgements))
    return model.step([turn])[0]


def states(outcome: Outcome | StreamError) -> dict[str, State]:
    """The state of each judgement."""
    assert isinstance(outcome, Outcome), outcome
    return {name: decision.state for name, decision in outcome.judged.items()}
