"""When summaries are made, and the text of extractive ones, for every chunk length and text."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.summaries.extractive import Material, SummaryItem, extract, rejection
from stream_vlm.memory.summaries.schedule import LONG, MID, Plan, count_in_history, to_merge
from stream_vlm.types import NANOSECONDS

TEXTS = [
    "a red ball rolls in",
    "the door opens",
    "Ein Ball, größer als zuvor!",
    "x",
    "a person puts down the blue cup on the table and leaves",
]

items = st.lists(
    st.builds(
        lambda start, lasts, text, confidence: SummaryItem(
            start * NANOSECONDS, (start + lasts) * NANOSECONDS, text, confidence
        ),
        st.integers(-30, 4000),
        st.integers(0, 100),
        st.sampled_from(TEXTS),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=40,
)


def words(text: str) -> list[str]:
    """The words of a summary without times and counts."""
    return re.findall(r"[^\W\d_]+", text)


def test_the_default_settings_cover_twelve_hours() -> None:
    settings = MemorySettings()
    plan = Plan.of(settings)
    newest_first: list[str] = []
    chunks_told = []
    for number in range(1, 1000):
        newest_first.insert(0, MID)
        mids = newest_first.count(MID)
        if merged := to_merge(["monday"] * mids, plan.mids):
            newest_first[mids - merged : mids] = [LONG]
        told = newest_first[: count_in_history(newest_first, plan)]
        chunks_told.append(told.count(MID) + told.count(LONG) * plan.mids)
        assert chunks_told[-1] == number or number > 42 * 5
    # The records of the running chunk count as its summary.
    assert (max(chunks_told) + 1) * settings.chunk_s == 12 * 3600
    assert (min(chunks_told[300:]) + 1) * settings.chunk_s > 11.7 * 3600


@given(st.integers(1, 3600), st.integers(0, 50), st.integers(0, 10**13))
def test_a_running_chunk_is_due_once_ahead_of_its_end_and_again_when_it_is_over(
    seconds: int, number: int, newest_ns: int
) -> None:
    length = seconds * NANOSECONDS
    plan = Plan(length, 5, 42, length // 10)
    ends = length * (number + 1)
    assert plan.is_due(number, 0, newest_ns, summarised=False, running=True) == (
        newest_ns >= ends - length // 10
    )
    assert plan.is_due(number, 0, newest_ns, summarised=True, running=True) == (newest_ns >= ends)
    assert plan.is_due(number, 0, newest_ns, summarised=True, running=False)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 7))
def test_mid_summaries_are_merged_in_order_within_their_session_and_stay_below_the_limit(
    chunks: list[int], most: int
) -> None:
    standing: list[tuple[int, int]] = []
    blocks: list[list[tuple[int, int]]] = []
    for session, number in enumerate(chunks):
        for chunk in range(number):
            standing.append((session, chunk))
            while merged := to_merge([str(of) for of, _ in standing], most):
                blocks.append(standing[:merged])
                del standing[:merged]
            assert len(standing) <= most
    every = [(session, chunk) for session, number in enumerate(chunks) for chunk in range(number)]
    assert [mid for block in blocks for mid in block] + standing == every
    assert all(
        len({session for session, _ in block}) == 1 and 0 < len(block) <= most for block in blocks
    )
    if len(chunks) == 1:
        assert all(len(block) == most for block in blocks)


@given(st.integers(0, 100), st.integers(0, 10), st.integers(1, 50))
def test_the_history_has_the_newest_long_blocks_and_all_mid_summaries(
    longs: int, mids: int, most: int
) -> None:
    newest_first = [MID] * mids + [LONG] * longs
    assert count_in_history(newest_first, Plan(1, 5, most)) == mids + min(longs, most)


@given(items, st.integers(40, 2000), st.integers(-10, 10))
def test_an_extract_keeps_its_limit_and_has_only_words_of_its_records(
    of: list[SummaryItem], most: int, since: int
) -> None:
    text = extract(Material(since * NANOSECONDS, tuple(of)), most)
    assert text
    assert len(text) <= most
    whole, last = words(text), ""
    if text.endswith("…"):
        whole, last = whole[:-1], whole[-1]
    known = {word for one in of for word in words(one.text)}
    assert set(whole) <= known
    assert not last or any(word.startswith(last) for word in known)


@example(
    [
        SummaryItem(0, 0, "a red ball rolls in", 0.5),
        SummaryItem(0, 0, "x", 0.5),
        SummaryItem(0, 0, "the door opens", 0.5),
    ],
    40,
)
@example(
    [
        SummaryItem(one, one, text, sure)
        for one, sure in enumerate((0.1, 0.2, 0.3))
        for text in TEXTS
    ],
    60,
)
@given(items, st.integers(40, 2000))
def test_an_extract_does_not_depend_on_the_order_of_records(
    of: list[SummaryItem], most: int
) -> None:
    assert extract(Material(0, tuple(of)), most) == extract(Material(0, tuple(reversed(of))), most)


@given(items)
def test_an_extract_with_enough_room_has_every_item_with_its_count(
    of: list[SummaryItem],
) -> None:
    text = extract(Material(0, tuple(of)), 8000)
    for one in of:
        number = sum(other.text == one.text for other in of)
        assert (f"{number}× {one.text}" if number > 1 else one.text) in text


def test_an_extract_has_times_counts_and_the_number_of_items_left_out() -> None:
    of = tuple(
        SummaryItem(start * NANOSECONDS, (start + 2) * NANOSECONDS, text, sure)
        for start, text, sure in [
            (3, "the door opens", 0.9),
            (40, "a cat yawns", 0.2),
            (60, "the door opens", 0.9),
            (125, "a ball rolls in", 0.1),
        ]
    )
    assert (
        extract(Material(0, of), 200)
        == "0:03–1:02 2× the door opens; 0:40–0:42 a cat yawns; 2:05–2:07 a ball rolls in"
    )
    assert (
        extract(Material(0, of), 65) == "0:03–1:02 2× the door opens; 2:05–2:07 a ball rolls in; +1"
    )
    assert extract(Material(0, of), 40) == "2:05–2:07 a ball rolls in; +2"


def test_an_extract_without_items_counts_states() -> None:
    assert (
        extract(Material(0, (), (("silence", 390), ("standby", 10))), 100)
        == "390× silence; 10× standby"
    )


def test_a_models_summary_is_rejected_if_empty_too_long_or_about_something_else() -> None:
    material = Material(
        0,
        (
            SummaryItem(0, 0, "a red ball rolls in from the left", 1.0),
            SummaryItem(0, 0, "the door opens", 1.0),
        ),
    )
    assert rejection("A red ball rolled in.", material, 100) == ""
    assert rejection("In the end the doors were open.", material, 100) == ""
    assert rejection(" ", material, 100) == "it is empty"
    assert "more than 10" in rejection("A red ball rolled in.", material, 10)
    assert (
        rejection("I cannot help with that.", material, 100)
        == "it mentions nothing of what it should summarise"
    )
