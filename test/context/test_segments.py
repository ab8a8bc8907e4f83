"""Layouts, positions, and the policies that keep whole turns."""

import numpy as np
import pytest

from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy, LastTurnsPolicy
from stream_vlm.context.segments import Segment, SegmentKind, positions, segments_of, tokens_in

PREFIX = Segment(SegmentKind.PREFIX, -1, (1, 2))


def turn(number: int, words: int = 1) -> list[Segment]:
    """A frame of 2 x 3 vision tokens and an action of `words` tokens."""
    return [
        Segment(SegmentKind.FRAME, number, (9,) * 6, (2, 3)),
        Segment(SegmentKind.ACTION, number, (5,) * words),
    ]


def test_text_advances_all_three_axes_by_one_a_token() -> None:
    where, following = positions([PREFIX], start=4)
    assert where.tolist() == [[4, 5], [4, 5], [4, 5]]
    assert following == 6


def test_picture_tokens_take_row_and_column_positions_and_advance_by_the_longer_side() -> None:
    where, following = positions([PREFIX, Segment(SegmentKind.FRAME, 0, (9,) * 6, (2, 3))])
    assert where[:, 2:].tolist() == [[2] * 6, [2, 2, 2, 3, 3, 3], [2, 3, 4, 2, 3, 4]]
    assert following == 5


def test_no_segments_have_no_positions() -> None:
    where, following = positions([], start=7)
    assert where.shape == (3, 0)
    assert following == 7


def test_a_frame_whose_grid_does_not_fit_its_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="2 x 3 vision tokens cannot have 5"):
        Segment(SegmentKind.FRAME, 0, (9,) * 5, (2, 3))


def run_stream(policy: ContextPolicy, words: list[int]) -> list[list[Segment]]:
    """Feed one turn for each entry of `words`; return the context after each turn."""
    held, history = [PREFIX], []
    for number, count in enumerate(words):
        entering = turn(number, count)
        held = segments_of(policy.layout(held, entering, reserve=0))
        history.append(list(held))
    return history


POLICIES = [
    pytest.param(LastTurnsPolicy(max_turns=8, keep_turns=5, max_tokens=100), id="last_turns"),
    pytest.param(
        LastTurnsPolicy(max_turns=8, keep_turns=8, max_tokens=100),
        id="last_turns without hysteresis",
    ),
    pytest.param(
        LastTurnsPolicy(max_turns=100, keep_turns=80, max_tokens=60),
        id="last_turns limited by tokens",
    ),
    pytest.param(ChunkedPolicy(chunk_turns=6, max_tokens=100), id="chunked"),
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(5))
def test_the_context_stays_within_the_budget_and_keeps_the_prefix_and_the_newest_turn(
    policy: ContextPolicy, seed: int
) -> None:
    words = np.random.default_rng(seed).integers(1, 20, size=200).tolist()
    for number, held in enumerate(run_stream(policy, words)):
        assert sum(map(len, held)) <= policy.max_tokens
        assert held[0] == PREFIX
        assert held[-1].turn == number


@pytest.mark.parametrize("policy", POLICIES)
def test_the_kept_turns_are_whole_and_consecutive(policy: ContextPolicy) -> None:
    for number, held in enumerate(run_stream(policy, [2] * 60)):
        turns = [segment.turn for segment in held[1:]]
        assert turns == sorted(turns)
        assert sorted(set(turns)) == list(range(min(turns), number + 1))
        assert all(turns.count(kept) == 2 for kept in set(turns))


def test_last_turns_trims_once_every_max_turns_minus_keep_turns() -> None:
    history = run_stream(LastTurnsPolicy(max_turns=8, keep_turns=5, max_tokens=10_000), [1] * 50)
    sizes = [len({segment.turn for segment in held[1:]}) for held in history]
    assert sizes[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sizes[8:16] == [5, 6, 7, 8, 5, 6, 7, 8]


def test_chunked_never_drops_anything_inside_a_chunk() -> None:
    history = run_stream(ChunkedPolicy(chunk_turns=6, max_tokens=10_000), [1] * 30)
    for number, held in enumerate(history):
        assert len({segment.turn for segment in held[1:]}) == number % 6 + 1


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="keep_turns 9"):
        LastTurnsPolicy(max_turns=8, keep_turns=9, max_tokens=100)
    with pytest.raises(ValueError, match="chunk_turns 0"):
        ChunkedPolicy(chunk_turns=0, max_tokens=100)


def test_last_turns_trims_as_rarely_if_tokens_run_out_before_turns() -> None:
    policy = LastTurnsPolicy(max_turns=40, keep_turns=20, max_tokens=100)
    held: list[Segment] = []
    trims = 0
    for number in range(200):
        entering = turn(number, words=4)
        layout = policy.layout(held, entering, reserve=0)
        trims += len(layout) < len(held) + len(entering)
        held = segments_of(layout)
        assert tokens_in(held) <= 100
    assert trims <= 200 / 5 + 1
