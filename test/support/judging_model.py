"""A model that judges each instruction on its own, by a rule that the test gives.

Run as a program, this file starts the real node over real DDS with this model instead of a
checkpoint; there an instruction "brighter than N" is judged by the mean brightness of the picture.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from state_sequences import decision_of

from stream_vlm.config.settings import Settings
from stream_vlm.model_protocol import (
    SILENT,
    Judgement,
    Outcome,
    Turn,
    Upcoming,
    WatchRefused,
    one_by_one,
)
from stream_vlm.types import NANOSECONDS, Decision, Frame, State, StreamError

Rule = Callable[[Frame, Judgement], Decision]
"""Gives the decision about a frame, with words and with what a second look would say."""


def by_letters(table: Mapping[str, str], tick_s: float = 1.0) -> Rule:
    """Decide by the letters of `state_sequences`, one each `tick_s` seconds of stamps.

    Args:
        table: the letters by instruction, or by camera and instruction ("front: fire").
        tick_s: seconds between two letters. After its last letter a model is silent.
    """

    def decide(frame: Frame, judgement: Judgement) -> Decision:
        text = judgement.instruction.text
        letters = table.get(f"{frame.camera}: {text}", table.get(text, ""))
        at = round(frame.stamp_ns / NANOSECONDS / tick_s)
        return decision_of(letters[at]) if at < len(letters) else decision_of(".")

    return decide


def by_brightness(frame: Frame, judgement: Judgement) -> Decision:
    """A response at every frame that is brighter than the instruction says.

    A second look never confirms an instruction with the word "doubtful".
    """
    text = judgement.instruction.text
    limit = re.search(r"brighter than (\d+)", text)
    if limit is None or frame.image.mean() <= int(limit[1]):
        return decision_of(".")
    verified = 0.1 if "doubtful" in text else 0.9
    return replace(decision_of("A"), text=f"it is {limit[0]}", verified=verified)


@dataclass
class JudgingStream:
    """It keeps no context."""

    camera: str

    def reset(self) -> None: ...

    def prepare(self) -> None: ...


@dataclass
class JudgingModel:
    """Judges by `rule`, applies the gate before it gives any words, and verifies where asked.

    Attributes:
        longest: most characters of an instruction; a longer one is refused.
        turns: the turns of all steps, for the test.
    """

    rule: Rule = by_brightness
    longest: int = 1000
    model_id: str = "judging"
    reads_memory: bool = False
    activity_threshold: float = 0.0
    judges_instructions: bool = True
    takes_any_size: bool = False
    device: str = "cpu"
    engine: str = "judging: no context"
    seconds: dict[str, float] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    def open_stream(self, camera: str) -> JudgingStream:
        return JudgingStream(camera)

    def unknown_words(self, text: str) -> Sequence[str]:
        return ()

    def step(
        self, turns: Sequence[Turn], upcoming: Upcoming | None = None
    ) -> list[Outcome | StreamError]:
        self.turns += turns
        return one_by_one(turns, self._take)

    def _take(self, turn: Turn) -> Outcome:
        for each in turn.judgements:
            if len(each.instruction.text) > self.longest:
                raise WatchRefused(f"{turn.frame.camera}: '{each.instruction.text}' is too long")
        decision = SILENT
        if turn.query is not None:
            decision = turn.gate(
                replace(decision_of("A"), text=f"answer to {turn.query.text}", verified=None)
            )
        return Outcome(
            decision,
            judged={
                each.instruction.instruction_id: self._judge(turn.frame, each)
                for each in turn.judgements
            },
        )

    def _judge(self, frame: Frame, judgement: Judgement) -> Decision:
        full = self.rule(frame, judgement)
        gated = judgement.gate(replace(full, text="", verified=None))
        if gated.state is not State.RESPONSE:
            return gated
        verified = full.verified if judgement.verify else None
        return replace(gated, text=full.text, verified=verified)


def load(settings: Settings) -> JudgingModel:
    """The model by brightness."""
    return JudgingModel()


if __name__ == "__main__":
    from stream_vlm_ros.node import main

    sys.exit(main(cast(Callable[[Settings], JudgingModel], load)))
