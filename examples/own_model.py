"""A model of your own: a class with `open_stream` and `step` takes the checkpoint's place.

    python examples/own_model.py clip.mp4

This one needs no weights: it speaks when the mean brightness of the picture changes by much.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from stream_vlm import Pipeline, load_settings, open_source
from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import Outcome, Turn, Upcoming, one_by_one
from stream_vlm.types import Decision, State, StreamError


class LastBrightness:
    """One camera's context: the brightness of the last picture."""

    def __init__(self) -> None:
        self.level: float | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.level = None

    def prepare(self) -> None:
        """Nothing is prepared between steps."""


class BrightnessModel:
    """Says that the light changes."""

    model_id = "brightness-example"
    reads_memory = False
    activity_threshold = 0.0
    seconds: Mapping[str, float] = {}

    def open_stream(self, camera: str) -> LastBrightness:
        """A context for one camera."""
        return LastBrightness()

    def unknown_words(self, text: str) -> Sequence[str]:
        """It answers no question, so it knows no word."""
        return text.split()

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        """Take each turn on its own."""
        return one_by_one(turns, self._take)

    def _take(self, turn: Turn) -> Outcome:
        assert isinstance(turn.stream, LastBrightness)
        last, level = turn.stream.level, float(turn.frame.image.mean())
        turn.stream.level = level
        changed = last is not None and abs(level - last) > 5
        state = State.RESPONSE if changed else State.SILENCE
        probabilities = {one: float(one is state) for one in State}
        text = "the light changes" if changed else ""
        return Outcome(turn.gate(Decision(state, probabilities, text, 1.0)))


def load(settings: Settings) -> BrightnessModel:
    """Called once, when the pipeline is opened."""
    return BrightnessModel()


path = Path(tempfile.mkdtemp(), "memory.db")
with Pipeline(load_settings({"memory.path": str(path)}), load=load) as pipeline:
    for result in pipeline.run(open_source(sys.argv[1])):
        for utterance in result.utterances:
            print(f"{utterance.camera}: {utterance.text}")
    print(f"{pipeline.memory.count()} records by {pipeline.model.model_id}")
