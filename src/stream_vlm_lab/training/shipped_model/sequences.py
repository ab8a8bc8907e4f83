"""Writes streams as token sequences, with the same turn format that the node uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from stream_vlm.context.segments import Segment, SegmentKind, positions
from stream_vlm.context.turn_formats import COMPACT
from stream_vlm.types import State
from stream_vlm_lab.training.common.losses import TargetKind, marker_kinds
from stream_vlm_lab.training.shipped_model.rendering import COLUMNS, ROWS


@dataclass(frozen=True)
class HistoryNoise:
    """Probabilities of errors in the model's own past turns during training.

    The model learns to work with a history that contains its own mistakes.

    Attributes:
        flip: a past silence is written as standby, or a past standby as silence.
        miss: a past response is left out; the next tick then has to say it.
        invent: a past silence is written as a response that was not due.
    """

    flip: float = 0.10
    miss: float = 0.12
    invent: float = 0.01


@dataclass(frozen=True)
class TokenStream:
    """One stream ready for training.

    Attributes:
        vision: vision tokens (ticks, cells, hidden).
        states: one state for each tick.
        texts: words of a tick whose state is RESPONSE, "" for other ticks.
        questions: question and answer of a tick, or None.
    """

    vision: torch.Tensor
    states: list[State]
    texts: list[str]
    questions: list[tuple[str, str] | None]


@dataclass(frozen=True)
class TrainingSequence:
    """A window of a stream as tokens.

    Attributes:
        ids: token ids.
        positions: int64 (3, tokens), rotary positions.
        targets: the token to learn after each token, -1 for none.
        kinds: the `TargetKind` of each target, 0 for none.
        vision: (pictures * cells, hidden), the vision tokens of the window.
    """

    ids: list[int]
    positions: NDArray[np.int64]
    targets: list[int]
    kinds: list[int]
    vision: torch.Tensor


class SequenceWriter:
    """Writes windows of streams as sequences."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        noise: HistoryNoise,
        question_rates: Sequence[float],
        *,
        has_standby: bool = True,
    ) -> None:
        """Create a writer.

        Args:
            tokenizer: the tokenizer of the model.
            noise: errors to put into the history.
            question_rates: each window draws one of these as the share of its silent ticks at which
                a question is asked.
            has_standby: False writes standby as silence, for a model with two states.
        """
        self._tokenizer = tokenizer
        self._noise = noise
        self._question_rates = tuple(question_rates)
        self._has_standby = has_standby
        self._head = self._ids(COMPACT.prefix)
        self._open, self._close = self._ids(COMPACT.frame_open), self._ids(COMPACT.frame_close)
        self._end = self._ids(COMPACT.action_close)
        self._markers = {state: self._ids(COMPACT.marker(state)) for state in State}
        self._picture = self._ids("<|image_pad|>")

    def marker(self, state: State) -> int:
        """Token id that stands for `state`."""
        return self._markers[state][0]

    def knows(self, state: State) -> bool:
        """Whether sequences of this writer contain `state`."""
        return self._has_standby or state is not State.STANDBY

    def write(
        self, stream: TokenStream, start: int, ticks: int, rng: np.random.Generator
    ) -> TrainingSequence:
        """Write the window of `ticks` ticks from tick `start`, with errors in its history."""
        segments = [Segment(SegmentKind.PREFIX, -1, self._head)]
        targets, decided, decisions = [-1] * len(self._head), [], []
        question_rate = self._question_rates[int(rng.integers(len(self._question_rates)))]
        overdue = ""
        captions = [text for text in stream.texts if text]
        for tick in range(start, start + ticks):
            state, text, asked = stream.states[tick], stream.texts[tick], stream.questions[tick]
            state = state if self.knows(state) else State.SILENCE
            if asked is not None and not overdue and rng.random() < question_rate:
                query = self._ids(COMPACT.query.format(query=asked[0]))
                segments.append(Segment(SegmentKind.QUERY, tick, query))
                targets += [-1] * len(query)
                state, text, is_answer = State.RESPONSE, asked[1], True
            else:
                is_answer = False
                if overdue and state is State.SILENCE:
                    state, text = State.RESPONSE, overdue
                overdue = ""
            frame = self._open + self._picture * (ROWS * COLUMNS) + self._close
            segments += [
                Segment(SegmentKind.TEXT, tick, self._open),
                Segment(SegmentKind.FRAME, tick, self._picture * (ROWS * COLUMNS), (ROWS, COLUMNS)),
                Segment(SegmentKind.TEXT, tick, self._close),
            ]
            targets += [-1] * (len(frame) - 1) + [self._markers[state][0]]
            decided.append(state)
            decisions.append(len(targets) - 1)
            # This becomes the model's history; it can differ from the target.
            said, learn = self._history(state, text, captions, is_answer, rng)
            if state is State.RESPONSE and not is_answer and not learn:
                overdue = text
            segments.append(Segment(SegmentKind.ACTION, tick, said))
            targets += [*said[1:], -1] if learn else [-1] * len(said)
        where, _ = positions(segments)
        ids = [token for segment in segments for token in segment.token_ids]
        kinds = [int(TargetKind.REST)] * len(targets)
        for place, kind in zip(decisions, marker_kinds(decided), strict=True):
            kinds[place] = int(kind)
        return TrainingSequence(
            ids, where, targets, kinds, stream.vision[start : start + ticks].flatten(0, 1)
        )

    def _history(
        self,
        state: State,
        text: str,
        captions: Sequence[str],
        is_answer: bool,
        rng: np.random.Generator,
    ) -> tuple[tuple[int, ...], bool]:
        """Token ids of the action in the history, and whether its words are targets."""
        draw = rng.random()
        if state is State.RESPONSE and (is_answer or draw >= self._noise.miss):
            return self._markers[State.RESPONSE] + self._ids(text) + self._end, True
        if state is State.SILENCE and captions and draw < self._noise.invent:
            return self._markers[State.RESPONSE] + self._ids(
                captions[int(rng.integers(len(captions)))]
            ) + self._end, False
        if state is State.RESPONSE:
            return self._markers[
                State.STANDBY if self._has_standby and rng.random() < 0.7 else State.SILENCE
            ] + self._end, False
        if self._has_standby and draw > 1.0 - self._noise.flip:
            state = State.STANDBY if state is State.SILENCE else State.SILENCE
        return self._markers[state] + self._end, False

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False)) if text else ()
