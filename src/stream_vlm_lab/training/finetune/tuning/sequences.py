"""Samples written down as token sequences, in the very turns that the node feeds to the same
checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.context.segments import Segment, SegmentKind, positions
from stream_vlm.types import State
from stream_vlm_lab.training.common.losses import TargetKind, marker_kinds
from stream_vlm_lab.training.data.sample import Reason, RowRefused, SampleTurn, StreamSample

NO_TARGET = -1


@dataclass(frozen=True)
class TuningSequence:
    """A sample as the model takes it.

    Attributes:
        ids: int64 (tokens,).
        positions: int64 (3, tokens), rotary positions of the three axes.
        targets: int64 (tokens,), the token to be learned after each, `NO_TARGET` where there is
            none.
        kinds: int64 (tokens,), the `TargetKind` of each target.
        pictures: uint8 RGB (turns, T, H, W, 3), the temporal patch of each turn.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    targets: NDArray[np.int64]
    kinds: NDArray[np.int64]
    pictures: NDArray[np.uint8]


@dataclass
class _Draft:
    """A sequence while it is written: its segments, and for each token its kind as a target or None
    where it is not learned.
    """

    segments: list[Segment] = field(default_factory=list)
    learned: list[TargetKind | None] = field(default_factory=list)

    def given(self, segments: Sequence[Segment]) -> None:
        self.segments += segments
        self.learned += [None] * sum(len(segment) for segment in segments)

    def said(
        self, kind: SegmentKind, turn: int, ids: Sequence[int], first: TargetKind = TargetKind.REST
    ) -> None:
        if ids:
            self.segments.append(Segment(kind, turn, tuple(ids)))
            self.learned += [first, *[TargetKind.REST] * (len(ids) - 1)]


class SampleWriter:
    """Writes samples in the turn format of a loaded checkpoint; the loss falls on the model's part
    alone, its end mark included.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._encode, self._plain = parts.encode_text, parts.plain
        self._writer, self._turns, self._tokens = parts.writer, parts.turns, parts.tokens
        self._sliding = parts.checkpoint.stream.sliding
        self._longest = parts.max_positions
        self._grid = parts.checkpoint.pictures.grid

    def write(self, sample: StreamSample, pictures: NDArray[np.uint8]) -> TuningSequence:
        """`sample` with one temporal patch a turn, `pictures` uint8 RGB (turns, T, H, W, 3).

        A two-state format has no standby; it is written as silence.

        Raises:
            RowRefused: it is longer than the model tells positions apart.
        """
        grid = self._grid(*pictures.shape[2:4])
        turns = [
            replace(turn, state=State.SILENCE) if self._is_unknown(turn) else turn
            for turn in sample.turns
        ]
        draft = _Draft()
        draft.given(self._head(sample.previous_text))
        is_waiting = False
        for number, (turn, kind) in enumerate(
            zip(turns, marker_kinds(turn.state for turn in turns), strict=True)
        ):
            question = self._plain(turn.question)
            # What is not answered at once is waited for, as a watch is.
            watches = bool(question and self._turns.watch) and turn.state is not State.RESPONSE
            is_waiting = watches or (is_waiting and not question)
            second = int(turn.start_s)
            query, watch = ("", question) if watches else (question, "")
            draft.given(
                self._writer.user(
                    number, second, second + 1, grid, query, watch, is_judged=is_waiting
                )
            )
            self._say(draft, number, turn, kind)
        return self._finished(draft, pictures)

    def _is_unknown(self, turn: SampleTurn) -> bool:
        return turn.state is State.STANDBY and State.STANDBY not in self._tokens.markers

    def _head(self, previous_text: str) -> list[Segment]:
        """The head, with the previous text cut to its first and last tokens where the format has a
        place for it.
        """
        if not self._turns.previous_close:
            return self._writer.head()
        sink, window = self._sliding.text_sink, self._sliding.text_window
        segments = self._writer.head(self._plain(previous_text))
        return [
            (
                replace(segment, token_ids=segment.token_ids[:sink] + segment.token_ids[-window:])
                if segment.kind is SegmentKind.PREVIOUS and len(segment) > sink + window
                else segment
            )
            for segment in segments
        ]

    def _say(self, draft: _Draft, number: int, turn: SampleTurn, kind: TargetKind) -> None:
        marker = self._tokens.markers.get(turn.state, ())
        draft.said(SegmentKind.STATE, number, marker, kind)
        if turn.state is State.RESPONSE:
            # Published streams put a space between marker and words.
            draft.said(
                SegmentKind.ACTION,
                number,
                self._encode((" " if marker else "") + self._plain(turn.text)),
            )
            draft.said(SegmentKind.STATE, number, self._tokens.response_end)
        closing = self._writer.close(number)
        draft.given(closing)
        if closing and closing[0].token_ids[0] in self._tokens.stop:
            draft.learned[-sum(len(segment) for segment in closing)] = TargetKind.REST

    def _finished(self, draft: _Draft, pictures: NDArray[np.uint8]) -> TuningSequence:
        ids = np.array(
            [token for segment in draft.segments for token in segment.token_ids], dtype=np.int64
        )
        if len(ids) > self._longest:
            raise RowRefused(
                Reason.TOO_LONG,
                f"{len(ids)} tokens in {len(pictures)} turns, the model tells {self._longest}"
                " positions apart; lower --chunk",
            )
        where, _ = positions(draft.segments)
        is_target = np.array([kind is not None for kind in draft.learned])
        kinds = np.array(
            [0 if kind is None else int(kind) for kind in draft.learned], dtype=np.int64
        )
        # What stands at a place is learned from the place before it.
        targets = np.append(np.where(is_target, ids, NO_TARGET)[1:], NO_TARGET)
        return TuningSequence(ids, where, targets, np.append(kinds[1:], 0), pictures)
