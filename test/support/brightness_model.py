"""A fake model for tests of everything else: it speaks when the picture's brightness changes.

Run as a program, this file starts the real node over real DDS with this model instead of a
checkpoint. It starts in a second, and a test knows what it will say about a picture. Options come
from environment variables.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stream_vlm.config.settings import Settings
from stream_vlm.memory.answers.prompt_recall import PromptRecall, PromptRecaller
from stream_vlm.memory.search.query import RecallQuery
from stream_vlm.model_protocol import ModelStream, Outcome, Turn, Upcoming, WatchRefused, one_by_one
from stream_vlm.types import Decision, Frame, Query, State, StreamError

SLOW_ANSWER_ENV = "BRIGHTNESS_ANSWER_S"
"""Seconds that an answer takes, spread over its words."""
LOAD_ENV = "BRIGHTNESS_LOAD_S"
"""Seconds that a step takes while the picture is bright, times the picture's share of pixels."""
ANY_SIZE_ENV = "BRIGHTNESS_ANY_SIZE"
"""Not empty for a model that takes pictures of any size."""
READS_ENV = "BRIGHTNESS_READS"
"""Not empty for a model that reads what the memory found, and answers with the best match."""
UNSURE_ENV = "BRIGHTNESS_UNSURE"
"""Not empty for a model whose answers have a low confidence."""
GATE_ENV = "BRIGHTNESS_GATE"
"""A file; the memory is not searched for a question before this file exists."""
LOADING_ENV = "BRIGHTNESS_LOADING"
"""A file; the model is not loaded before this file exists."""
WARM_UP_ENV = "BRIGHTNESS_WARM_UP"
"""A file; a step with the black picture of the warm-up does not end before this file exists."""
CRASH_ENV = "BRIGHTNESS_CRASH_AT"
"""Brightness (0..255) at which a step raises an unexpected error."""


@dataclass
class BrightnessStream:
    """Half light is standby; a change between dark and bright is a response.

    While a watch is active, only brightness that the watch names is not silence.
    """

    last_seen: str = ""

    def step(
        self,
        frame: Frame,
        query: Query | None,
        gate: Callable[[Decision], Decision],
        on_text: Callable[[str], None] | None = None,
        picture_share: float = 1.0,
        watch: Query | None = None,
    ) -> Decision:
        if watch is not None and "sound" in watch.text:
            raise WatchRefused(
                f"{frame.camera}: this model cannot hear; watch for something visible"
            )
        brightness = float(frame.image.mean())
        if brightness == 0:
            _wait_for_file(WARM_UP_ENV)
        if brightness > 155:
            time.sleep(float(os.environ.get(LOAD_ENV, "0")) * picture_share)
        if os.environ.get(CRASH_ENV) and abs(brightness - float(os.environ[CRASH_ENV])) < 3:
            raise ArithmeticError(f"brightness {brightness:.0f}")
        if query is not None:
            return self._answer(_answer_text(brightness, query), gate, on_text)
        seen = (
            "half light" if 100 <= brightness <= 155 else "bright" if brightness > 155 else "dark"
        )
        state = (
            State.STANDBY
            if seen == "half light"
            else State.RESPONSE
            if self.last_seen and seen != self.last_seen
            else State.SILENCE
        )
        if state is not State.STANDBY:
            self.last_seen = seen
        if watch is not None and seen not in watch.text:
            state = State.SILENCE
        probabilities = {other: 0.8 if other is state else 0.1 for other in State}
        return gate(
            Decision(
                state, probabilities, f"it became {seen}" if state is State.RESPONSE else "", 0.8
            )
        )

    def _answer(
        self, text: str, gate: Callable[[Decision], Decision], on_text: Callable[[str], None] | None
    ) -> Decision:
        words = text.split()
        for count in range(1, len(words) + 1):
            time.sleep(float(os.environ.get(SLOW_ANSWER_ENV, "0")) / len(words))
            if on_text is not None:
                on_text(" ".join(words[:count]))
        confidence = 0.1 if os.environ.get(UNSURE_ENV) else 0.9
        return gate(
            Decision(
                State.RESPONSE,
                {State.RESPONSE: 1.0, State.SILENCE: 0.0, State.STANDBY: 0.0},
                text,
                confidence,
            )
        )

    def reset(self) -> None:
        self.last_seen = ""

    def prepare(self) -> None: ...


def _answer_text(brightness: float, query: Query) -> str:
    if os.environ.get(READS_ENV) and query.recalled.lines:
        return f"I read: {query.recalled.lines[0].text}"
    return f"the brightness is {brightness:.0f}"


@dataclass
class BrightnessModel:
    settings: Settings
    model_id: str = "brightness"
    device: str = "cpu"
    engine: str = "brightness: no context"
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def reads_memory(self) -> bool:
        return bool(os.environ.get(READS_ENV))

    @property
    def activity_threshold(self) -> float:
        return 0.0

    @property
    def takes_any_size(self) -> bool:
        return bool(os.environ.get(ANY_SIZE_ENV))

    def unknown_words(self, text: str) -> Sequence[str]:
        return [word for word in text.split() if word == "unicorn"]

    def open_stream(self, camera: str) -> ModelStream:
        return BrightnessStream()

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        def take(turn: Turn) -> Outcome:
            stream = cast(BrightnessStream, turn.stream)
            decision = stream.step(
                turn.frame,
                turn.query,
                turn.gate,
                turn.on_text,
                turn.limits.picture_share,
                turn.watch,
            )
            return Outcome(decision, self.embed(turn.frame.image) if turn.with_vector else None)

        return one_by_one(turns, take)

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A vector (2,) of length 1; vectors are closer if the brightness is more similar."""
        angle = float(image.mean()) / 255 * np.pi / 2
        return np.array([np.cos(angle), np.sin(angle)], np.float32)


def load(settings: Settings) -> BrightnessModel:
    """Make the model; as with a checkpoint, `model.directory` must exist if it is set."""
    if settings.model.directory and not Path(settings.model.directory).is_dir():
        raise StreamError(
            f"model.directory: {settings.model.directory} does not exist; name another"
        )
    _wait_for_file(LOADING_ENV)
    return BrightnessModel(settings)


def _wait_for_file(variable: str) -> None:
    path = os.environ.get(variable)
    while path and not Path(path).exists():
        time.sleep(0.02)


def _block_memory_search() -> None:
    """Make every memory search for a question wait for the file of `GATE_ENV`."""
    recall = PromptRecaller.recall

    def recall_later(
        self: PromptRecaller, text: str | RecallQuery, camera: str = ""
    ) -> PromptRecall:
        while not Path(os.environ[GATE_ENV]).exists():
            time.sleep(0.02)
        return recall(self, text, camera)

    PromptRecaller.recall = recall_later  # type: ignore[method-assign]


if __name__ == "__main__":
    from stream_vlm_ros.node import main

    if os.environ.get(GATE_ENV):
        _block_memory_search()
    sys.exit(main(load))
