"""The policy of StreamingVLM: separate windows for pictures, for turns and for previous text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_vlm.context.policies.policy import ALWAYS, WAITING, newest_turn, turns_of
from stream_vlm.context.segments import Piece, Segment, SegmentKind, cut, part, tokens_in, whole

VISION = (SegmentKind.FRAME, SegmentKind.FRAME_MARK)
WORDED = (
    SegmentKind.TIME,
    SegmentKind.RECALLED,
    SegmentKind.ACTION_MARK,
    SegmentKind.STATE,
    SegmentKind.ACTION,
)
"""Kinds that leave a turn after `text_turns` turns; its ACTION words become previous text."""


@dataclass(frozen=True)
class SlidingPolicy:
    """Text sink, text window and vision window (StreamingVLM, arXiv 2510.09608, section 3.1).

    A turn keeps its picture for `vision_turns` turns and its words for `text_turns` turns; after
    both windows the rest of the turn leaves. Words that leave their turn move to the end of the
    previous text, with keys and values unchanged. The previous text follows the first PREFIX
    segment. The newest turn counts in both windows.

    The published inference code differs from the paper. `compatible=True` follows the code token by
    token, for checkpoints that are compared with it. The default mode corrects three faults of the
    code:

    - The window of the previous text holds `text_window` tokens. The reference keeps one token
      less.
    - Every word of a reply moves. The reference takes the last token of a reply for its end mark
      and drops it. A reply that was cut at the token limit has no end mark, so it loses its last
      word. Here the end mark is known by its kind.
    - The last query stays, with the markers around it, until another query replaces it. In the
      reference it leaves with its turn, and the model no longer knows the question.

    In both modes the newest watch stays, with the markers around it; the reference has no watches.

    The reference does not limit the number of tokens; `max_tokens` applies in both modes. If
    replies, queries or pictures exceed it, both windows shrink for that turn. If that is not
    enough, the previous text is cut further. The query is dropped only if it does not fit beside a
    single turn.

    Two faults of the reference cannot occur in either mode, because segments carry their kind and
    their picture's grid: a picture size that changes mid-stream leaves no wrong grid behind, and a
    generated "Time" is never taken for a time marker.

    The default mode needs `text_turns` of at least 2. The end of the newest reply reaches the cache
    only with the next turn, so a reply that moved at once would lose its end.

    Attributes:
        vision_turns: turns that keep their picture.
        text_turns: turns that keep their words.
        text_sink: first tokens of the previous text that always stay (attention sink).
        text_window: last tokens of the previous text that stay. If `text_sink` and `text_window`
            are both None, the previous text is cut only where `max_tokens` requires it.
        max_tokens: the most tokens in the context, the reserve included.
        compatible: True follows the published inference code.
    """

    vision_turns: int
    text_turns: int
    text_sink: int | None
    text_window: int | None
    max_tokens: int
    compatible: bool = False

    def __post_init__(self) -> None:
        least = 1 if self.compatible else 2
        if self.vision_turns < 1:
            raise ValueError(f"vision_turns {self.vision_turns} must be at least 1")
        if self.text_turns < least:
            raise ValueError(f"text_turns {self.text_turns} must be at least {least}")
        if (self.text_sink is None) != (self.text_window is None):
            raise ValueError(
                f"text_sink {self.text_sink} and text_window {self.text_window} must both be given"
                " or both be None"
            )
        if (
            self.text_sink is not None
            and self.text_window is not None
            and (self.text_sink < 0 or self.text_window < 1)
        ):
            raise ValueError(
                f"text_sink {self.text_sink} must be at least 0 and text_window {self.text_window}"
                " at least 1"
            )

    @property
    def most_turns(self) -> int:
        """See `ContextPolicy`."""
        return max(self.vision_turns, self.text_turns)

    def layout(
        self, kept: Sequence[Segment], entering: Sequence[Segment], reserve: int
    ) -> list[Piece]:
        """See `ContextPolicy`."""
        present = [whole(index, segment) for index, segment in enumerate((*kept, *entering))]
        newest = turns_of(entering)[-1]
        room = self.max_tokens - reserve
        if self.compatible:
            moved = self._moved_as_published(present, newest, len(kept))
            previous = self._cut(present, moved, fresh=not kept)
            layout = self._assemble(
                present, moved, previous, newest, self.vision_turns, self.text_turns, None
            )
            if tokens_in(layout) <= room:
                return layout
        query = newest_turn([piece.segment for piece in present], SegmentKind.QUERY)
        for narrower in range(max(self.vision_turns, self.text_turns)):
            vision, text = max(1, self.vision_turns - narrower), max(1, self.text_turns - narrower)
            moved = [
                _as_previous(piece)
                for piece in present[: len(kept)]
                if _is_words(piece) and newest - piece.segment.turn >= text
            ]
            layout = self._assemble(
                present, moved, self._cut(present, moved), newest, vision, text, query
            )
            if tokens_in(layout) <= room:
                return layout
        for kept_query in (query, None):
            without = self._assemble(present, moved, [], newest, 1, 1, kept_query)
            spare = room - tokens_in(without)
            if spare >= 0:
                return self._assemble(
                    present, moved, self._cut(present, moved, spare), newest, 1, 1, kept_query
                )
        return without

    def _assemble(
        self,
        present: Sequence[Piece],
        moved: Sequence[Piece],
        previous: Sequence[Piece],
        newest: int,
        vision: int,
        text: int,
        query: int | None,
    ) -> list[Piece]:
        """The first PREFIX segment, then `previous`, then all other pieces that stay.

        Args:
            present: the present context and the entering segments.
            moved: words that have moved to the previous text.
            previous: the previous text.
            newest: number of the newest turn.
            vision: turns that keep their picture.
            text: turns that keep their words.
            query: number of the turn whose query stays, or None.
        """
        moved_indices = {piece.index for piece in moved}
        watch = newest_turn([piece.segment for piece in present], SegmentKind.WATCH)
        stays = [
            piece
            for piece in present
            if piece.index not in moved_indices
            and (
                _stays(piece.segment, newest, vision, text, query)
                or (piece.segment.turn == watch and piece.segment.kind in WAITING)
            )
        ]
        at = next(
            (
                place + 1
                for place, piece in enumerate(stays)
                if piece.segment.kind is SegmentKind.PREFIX
            ),
            0,
        )
        return [*stays[:at], *previous, *stays[at:]]

    def _cut(
        self,
        present: Sequence[Piece],
        moved: Sequence[Piece],
        spare: int | None = None,
        fresh: bool = False,
    ) -> list[Piece]:
        """The previous text with the `moved` words at its end, cut to sink and window.

        If `spare` is given, it is cut to at most `spare` tokens, too. `fresh` says that the context
        is empty so far.
        """
        text = [*(piece for piece in present if piece.segment.kind is SegmentKind.PREVIOUS), *moved]
        length = tokens_in(text)
        sink, window = self.text_sink or 0, self.text_window
        if window is None:
            window = length
        elif self.compatible:
            # The published code cuts nothing before the first turn. Later it keeps one token less
            # than its window.
            window = length if fresh else window - 1
        if spare is not None:
            sink = min(sink, spare)
            window = min(window, spare - sink)
        if length <= sink + window:
            return text
        return [*cut(text, 0, sink), *cut(text, length - window, length)]

    def _moved_as_published(self, present: Sequence[Piece], newest: int, held: int) -> list[Piece]:
        """Words of the replies that leave, each without its last token.

        Only pieces with an index below `held` are in the cache, and only those can move.
        """
        moved: list[Piece] = []
        for turn in turns_of([piece.segment for piece in present]):
            if newest - turn >= self.text_turns:
                reply = [
                    piece
                    for piece in present
                    if piece.segment.turn == turn
                    and piece.segment.kind in (SegmentKind.STATE, SegmentKind.ACTION)
                ]
                moved += [
                    _as_previous(piece)
                    for piece in cut(reply, 0, tokens_in(reply) - 1)
                    if piece.index < held
                ]
        return moved


def _stays(segment: Segment, newest: int, vision: int, text: int, query: int | None) -> bool:
    """Whether a segment stays in its place, with windows of `vision` and `text` turns.

    It is False for the previous text, which `SlidingPolicy._cut` handles.
    """
    age = newest - segment.turn
    if segment.kind in ALWAYS:
        return segment.kind is SegmentKind.PREFIX
    if segment.kind in VISION:
        return age < vision
    if segment.kind in WORDED:
        return age < text
    return age < max(vision, text) or segment.turn == query


def _is_words(piece: Piece) -> bool:
    return piece.segment.kind is SegmentKind.ACTION


def _as_previous(piece: Piece) -> Piece:
    return part(piece, 0, len(piece), SegmentKind.PREVIOUS, -1)
