"""The sliding policy follows StreamingVLM's published code in compatibility mode only.

The default mode has the windows of the paper, without the faults of the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming_rule import ENDS_IN_NEWLINE, Rule, Token, positions

from stream_vlm.context import segments as context_segments
from stream_vlm.context.policies.sliding import SlidingPolicy
from stream_vlm.context.segments import Segment, SegmentKind, segments_of

UNBOUNDED = 10**9
KINDS = {
    "head": SegmentKind.PREFIX,
    "content": SegmentKind.PREVIOUS,
    "footer": SegmentKind.PREFIX,
    "user open": SegmentKind.TEXT,
    "time": SegmentKind.TIME,
    "query": SegmentKind.QUERY,
    "user close": SegmentKind.TEXT,
    "assistant": SegmentKind.ACTION_MARK,
    "reply": SegmentKind.ACTION,
}


@dataclass
class Turn:
    """One turn of a random stream.

    Attributes:
        grid: (rows, columns) of the picture's vision tokens.
        query: tokens of the question; 0 for none.
        reply: tokens of the reply.
        cut: whether the reply is cut at the token limit.
    """

    grid: tuple[int, int]
    query: int
    reply: int
    cut: bool


@dataclass
class Stream:
    """A stream as segments, run through a policy; every token has a different id."""

    policy: SlidingPolicy
    next_id: int = 0
    held: list[Segment] = field(default_factory=list)
    pending: list[Segment] = field(default_factory=list)
    words: list[int] = field(default_factory=list)

    def ids(self, count: int) -> tuple[int, ...]:
        self.next_id += count
        return tuple(range(self.next_id - count, self.next_id))

    def segment(self, role: str, turn: int, count: int) -> Segment:
        return Segment(KINDS[role], turn, self.ids(count))

    def prefix(self, previous: int) -> list[Segment]:
        parts = [
            self.segment("head", -1, 3),
            self.segment("content", -1, previous),
            self.segment("footer", -1, 2),
        ]
        return [part for part in parts if len(part)]

    def user(self, turn: int, second: Turn) -> list[Segment]:
        rows, columns = second.grid
        parts = [
            self.segment("user open", turn, 2),
            self.segment("time", turn, 3),
            Segment(SegmentKind.FRAME_MARK, turn, self.ids(1)),
            Segment(SegmentKind.FRAME, turn, self.ids(rows * columns), second.grid),
            Segment(SegmentKind.FRAME_MARK, turn, self.ids(1)),
            self.segment("query", turn, second.query),
            self.segment("user close", turn, 2),
            self.segment("assistant", turn, 2),
        ]
        return [part for part in parts if len(part)]

    def say(self, turn: int, second: Turn) -> None:
        """Feed the reply and leave its end pending.

        The end is the last word of a cut reply, and the end marks of any reply.
        """
        said = self.ids(second.reply)
        self.words += said
        fed, unfed = (said[:-1], said[-1:]) if second.cut else (said, ())
        self.held += [Segment(SegmentKind.ACTION, turn, (word,)) for word in fed]
        self.pending = [Segment(SegmentKind.ACTION, turn, unfed)] if unfed else []
        self.pending.append(self.segment("assistant", turn, 2))

    def step(self, turn: int, second: Turn, previous: int) -> None:
        entering = [
            *(self.prefix(previous) if turn == 0 else []),
            *self.pending,
            *self.user(turn, second),
        ]
        self.held = segments_of(self.policy.layout(self.held, entering, reserve=8))

    def tokens(self) -> list[int]:
        return [token for segment in self.held for token in segment.token_ids]

    def of_kind(self, kind: SegmentKind) -> list[int]:
        return [
            token for segment in self.held if segment.kind is kind for token in segment.token_ids
        ]


turns = st.lists(
    st.builds(
        Turn,
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.integers(0, 3),
        st.integers(1, 6),
        st.booleans(),
    ),
    min_size=1,
    max_size=14,
)
windows = st.integers(1, 6)
text_cuts = st.one_of(st.just((None, None)), st.tuples(st.integers(0, 8), st.integers(1, 8)))


class RuleStream:
    """The same stream as tokens of the published rule, with the ids that `Stream` uses."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.tokens: list[Token] = []
        self.fed: set[int] = set()

    def begin(self, entering: list[Segment], number: int) -> None:
        self.tokens = self.rule.evict(self.tokens, number)
        for segment in entering:
            frame = (
                [
                    (row, column)
                    for row in range(segment.grid[0])
                    for column in range(segment.grid[1])
                ]
                if segment.grid
                else [None] * len(segment)
            )
            role = self.role(segment)
            # The end mark of a reply is already in the list. Its line break comes with the next
            # prompt, unless the list ends with one.
            if role == "assistant" and segment.turn < number:
                token_ids: tuple[int, ...] = (
                    () if self.tokens[-1].role in ENDS_IN_NEWLINE else segment.token_ids[1:]
                )
            elif role == "reply":
                token_ids = ()
            else:
                token_ids = segment.token_ids
            self.tokens += [
                Token(token, role, segment.turn, None, cell, segment.grid)
                for token, cell in zip(token_ids, frame, strict=False)
            ]

    def end(self, reply: list[Token]) -> None:
        self.tokens += reply

    @staticmethod
    def role(segment: Segment) -> str:
        if segment.kind in (SegmentKind.FRAME, SegmentKind.FRAME_MARK):
            return "vision"
        if segment.kind is SegmentKind.PREFIX:
            return "footer" if len(segment) == 2 else "head"
        if segment.kind is SegmentKind.TEXT:
            return "user close"
        return next(role for role, kind in KINDS.items() if kind is segment.kind)


@given(turns, windows, windows, text_cuts, st.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_in_compatibility_mode_every_turn_keeps_exactly_the_tokens_of_the_published_rule(
    seconds: list[Turn], vision: int, text: int, cuts: tuple[int | None, int | None], previous: int
) -> None:
    stream = Stream(SlidingPolicy(vision, text, *cuts, UNBOUNDED, compatible=True))
    rule = RuleStream(Rule(vision, text, *cuts))
    for turn, second in enumerate(seconds):
        entering = [
            *(stream.prefix(previous) if turn == 0 else []),
            *stream.pending,
            *stream.user(turn, second),
        ]
        stream.held = segments_of(stream.policy.layout(stream.held, entering, reserve=8))
        rule.begin(entering, turn)
        assert stream.tokens() == [token.token_id for token in rule.tokens]
        assert context_segments.positions(stream.held)[0].T.tolist() == [
            list(place) for place in positions(rule.tokens)
        ]
        stream.say(turn, second)
        said = stream.words[-second.reply :]
        mark = stream.pending[-1].token_ids[0]
        rule.end([*(Token(word, "reply", turn) for word in said), Token(mark, "assistant", turn)])


def play(policy: SlidingPolicy, seconds: list[Turn], previous: int = 0) -> list[Stream]:
    """The stream after the layout of each turn."""
    stream, history = Stream(policy), []
    for turn, second in enumerate(seconds):
        stream.step(turn, second, previous)
        history.append(
            replace(
                stream,
                held=list(stream.held),
                words=list(stream.words),
                pending=list(stream.pending),
            )
        )
        stream.say(turn, second)
    return history


@given(turns, windows, st.integers(2, 6), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_by_default_no_word_is_lost_while_the_previous_text_has_room(
    seconds: list[Turn], vision: int, text: int, previous: int
) -> None:
    for after in play(SlidingPolicy(vision, text, None, None, UNBOUNDED), seconds, previous):
        words = [
            *after.of_kind(SegmentKind.PREVIOUS)[previous:],
            *after.of_kind(SegmentKind.ACTION),
        ]
        assert words == after.words


@given(turns, windows, st.integers(2, 6), st.integers(0, 8), st.integers(1, 8), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_by_default_the_previous_text_keeps_its_sink_and_its_whole_window(
    seconds: list[Turn], vision: int, text: int, sink: int, window: int, previous: int
) -> None:
    everything = play(SlidingPolicy(vision, text, None, None, UNBOUNDED), seconds, previous)
    for after, uncut in zip(
        play(SlidingPolicy(vision, text, sink, window, UNBOUNDED), seconds, previous),
        everything,
        strict=True,
    ):
        kept, said = after.of_kind(SegmentKind.PREVIOUS), uncut.of_kind(SegmentKind.PREVIOUS)
        assert kept == (
            said if len(said) <= sink + window else [*said[:sink], *said[len(said) - window :]]
        )


@given(turns, windows, st.integers(2, 6), st.integers(1, 10))
@settings(max_examples=150, deadline=None)
def test_by_default_the_last_query_and_its_markers_stay_until_another_query(
    seconds: list[Turn], vision: int, text: int, late: int
) -> None:
    # The first turns may have queries; after them there is none for longer than any window.
    asked = [
        replace(second, query=second.query if number <= late else 0)
        for number, second in enumerate(seconds)
    ]
    quiet = [Turn((1, 1), 0, 1, False)] * 8
    last: Segment | None = None
    for turn, after in enumerate(
        play(SlidingPolicy(vision, text, 4, 4, UNBOUNDED), [*asked, *quiet])
    ):
        queries = [segment for segment in after.held if segment.kind is SegmentKind.QUERY]
        newest = [segment for segment in queries if segment.turn == turn]
        last = newest[0] if newest else last
        if last is not None:
            assert last in queries
            assert [segment.kind for segment in after.held if segment.turn == last.turn].count(
                SegmentKind.TEXT
            ) == 2
        assert all(query == last or turn - query.turn < max(vision, text) for query in queries)


def test_by_default_the_last_word_of_a_cut_reply_moves_with_the_others() -> None:
    seconds = [Turn((1, 1), 0, 4, True)] * 3
    default = play(SlidingPolicy(2, 2, 8, 8, UNBOUNDED), seconds)[-1]
    published = play(SlidingPolicy(2, 2, 8, 8, UNBOUNDED, compatible=True), seconds)[-1]
    assert default.of_kind(SegmentKind.PREVIOUS) == default.words[:4]
    assert published.of_kind(SegmentKind.PREVIOUS) == published.words[:3]


def test_pictures_that_change_their_size_mid_stream_keep_their_own_grids() -> None:
    grids = [(2, 3), (1, 1), (3, 2), (2, 2)]
    after = play(SlidingPolicy(3, 3, 4, 4, UNBOUNDED), [Turn(grid, 0, 1, False) for grid in grids])[
        -1
    ]
    assert [segment.grid for segment in after.held if segment.kind is SegmentKind.FRAME] == grids[
        1:
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 8, 8, 100), "vision_turns 0"),
        ((4, 1, 8, 8, 100), "text_turns 1 must be at least 2"),
        ((4, 4, 8, None, 100), "must both be given"),
        ((4, 4, 8, 0, 100), "text_window 0"),
    ],
)
def test_impossible_windows_are_refused(
    arguments: tuple[int, int, int | None, int | None, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SlidingPolicy(*arguments)
