"""Writes samples as token sequences, in the turn format that the node uses for the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.context.segments import Segment, SegmentKind, positions
from stream_vlm.types import State
from stream_vlm_lab.training.common.losses import TargetKind, marker_kinds
from stream_vlm_lab.training.data.sample import RefusalReason, RowRefused, SampleTurn, StreamSample

NO_TARGET = -1


@dataclass(frozen=True)
class TuningSequence:
    """A sample as input of the model.

    Attributes:
        ids: int64 (tokens,), token ids.
        positions: int64 (3, tokens), rotary positions of the three axes.
        targets: int64 (tokens,), the token to learn after each token, `NO_TARGET` for none.
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
    """A sequence that is being written.

    Attributes:
        segments: the segments so far.
        kinds: for each token its kind as a target, or None if it is not a target.
    """

    segments: list[Segment] = field(default_factory=list)
    kinds: list[TargetKind | None] = field(default_factory=list)

    def add_input(self, segments: Sequence[Segment]) -> None:
        self.segments += segments
        self.kinds += [None] * sum(len(segment) for segment in segments)

    def add_targets(
        self, kind: SegmentKind, turn: int, ids: Sequence[int], first: TargetKind = TargetKind.REST
    ) -> None:
        if ids:
            self.segments.append(Segment(kind, turn, tuple(ids)))
            self.kinds += [first, *[TargetKind.REST] * (len(ids) - 1)]


class SampleWriter:
    """Writes samples in the turn format of a loaded checkpoint.

    Only the model's own tokens are targets: state marker, words and end-of-turn token.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._encode, self._plain = parts.encode_text, parts.plain
        self._writer, self._turns, self._tokens = parts.writer, parts.turns, parts.tokens
        self._sliding = parts.checkpoint.stream.sliding
        self._longest = parts.max_positions
        self._grid = parts.checkpoint.pictures.grid

    def write(self, sample: StreamSample, pictures: NDArray[np.uint8]) -> TuningSequence:
        """Write `sample` with one temporal patch per turn.

        A format with two states has no standby; it is written as silence.

        Args:
            sample: the sample.
            pictures: uint8 RGB (turns, T, H, W, 3).

        Raises:
            RowRefused: the sequence is longer than the model's context.
        """
        grid = self._grid(*pictures.shape[2:4])
        turns = [
            replace(turn, state=State.SILENCE) if self._is_unknown(turn) else turn
            for turn in sample.turns
        ]
        draft = _Draft()
        draft.add_input(self._head(sample.previous_text))
        for number, (turn, kind) in enumerate(
            zip(turns, marker_kinds(turn.state for turn in turns), strict=True)
        ):
            question = self._plain(turn.question)
            # A question that is not answered in its own turn is written as a watch.
            watches = bool(question and self._turns.watch) and turn.state is not State.RESPONSE
            second = int(turn.start_s)
            query, watch = ("", question) if watches else (question, "")
            draft.add_input(self._writer.user(number, second, second + 1, grid, query, watch))
            self._add_answer(draft, number, turn, kind)
        return self._to_sequence(draft, pictures)

    def _is_unknown(self, turn: SampleTurn) -> bool:
        return turn.state is State.STANDBY and State.STANDBY not in self._tokens.markers

    def _head(self, previous_text: str) -> list[Segment]:
        """The head; if the format has a place for previous text, it is cut to sink and window."""
        if not self._turns.previous_close:
            return self._writer.prefix()
        sink, window = self._sliding.text_sink, self._sliding.text_window
        segments = self._writer.prefix(self._plain(previous_text))
        return [
            (
                replace(segment, token_ids=segment.token_ids[:sink] + segment.token_ids[-window:])
                if segment.kind is SegmentKind.PREVIOUS and len(segment) > sink + window
                else segment
            )
            for segment in segments
        ]

    def _add_answer(self, draft: _Draft, number: int, turn: SampleTurn, kind: TargetKind) -> None:
        marker = self._tokens.markers.get(turn.state, ())
        draft.add_targets(SegmentKind.STATE, number, marker, kind)
        if turn.state is State.RESPONSE:
            # Published data sets put a space between marker and words.
            draft.add_targets(
                SegmentKind.ACTION,
                number,
                self._encode((" " if marker else "") + self._plain(turn.text)),
            )
            draft.add_targets(SegmentKind.STATE, number, self._tokens.response_end)
        closing = self._writer.close(number)
        draft.add_input(closing)
        if closing and closing[0].token_ids[0] in self._tokens.stop:
            draft.kinds[-sum(len(segment) for segment in closing)] = TargetKind.REST

    def _to_sequence(self, draft: _Draft, pictures: NDArray[np.uint8]) -> TuningSequence:
        ids = np.array(
            [token for segment in draft.segments for token in segment.token_ids], dtype=np.int64
        )
        if len(ids) > self._longest:
            raise RowRefused(
                RefusalReason.TOO_LONG,
                f"{len(ids)} tokens in {len(pictures)} turns, the model's context has"
                f" {self._longest}; lower --chunk",
            )
        where, _ = positions(draft.segments)
        is_target = np.array([kind is not None for kind in draft.kinds])
        kinds = np.array([0 if kind is None else int(kind) for kind in draft.kinds], dtype=np.int64)
        # Each token is predicted at the position before it.
        targets = np.append(np.where(is_target, ids, NO_TARGET)[1:], NO_TARGET)
        return TuningSequence(ids, where, targets, np.append(kinds[1:], 0), pictures)
