"""What gives way under load, in which order, and how it comes back: the governor under simulated
loads.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_vlm.config.settings import Settings, load_settings
from stream_vlm.loop.load_governor import MOST_PATIENCE, TRIAL_STEPS, Level, LoadGovernor, levels
from stream_vlm.types import Limits

SETTINGS = {"stream.rate_hz": 2.0, "load_shedding.budget": 0.8}
PERIOD_S, ALLOWANCE_S = 0.5, 0.4
CLEAN, WINDOW = 20, 8
"""The defaults of load_shedding.clean_steps and load_shedding.window_steps."""

Cost = Callable[[Level], float]
"""Seconds that a step takes at a level."""


def governor(takes_any_size: bool = True, **changed: object) -> LoadGovernor:
    return LoadGovernor(
        load_settings(
            SETTINGS | {name.replace("__", "."): value for name, value in changed.items()}
        ),
        takes_any_size,
    )


def run(subject: LoadGovernor, cost: Cost, steps: int) -> list[int]:
    """The level after each of `steps` steps that take what `cost` says."""
    seen = []
    for _ in range(steps):
        before = subject.level
        changed = subject.observe(cost(subject.next_step))
        seen.append(subject.level)
        assert changed == (before != subject.level)
        assert abs(before - subject.level) <= 1
    return seen


def changes(seen: list[int]) -> list[int]:
    """At which steps the level changed."""
    return [step for step in range(1, len(seen)) if seen[step] != seen[step - 1]]


def linear(fixed_s: float, text_s: float = 0.0, pixels_s: float = 0.0) -> Cost:
    """A model whose steps take `fixed_s`, and in full `text_s` for words and `pixels_s` for the
    picture.
    """

    def cost(level: Level) -> float:
        words = 1.0 if level.limits.new_tokens is None else level.limits.new_tokens / 32
        return fixed_s + text_s * words + pixels_s * level.limits.picture_share

    return cost


loads = st.builds(linear, *[st.floats(0.0, 3.0)] * 3)


def test_text_gives_way_first_then_pixels_then_the_sampling_rate() -> None:
    assert levels(Settings(), takes_any_size=True) == (
        Level(),
        Level(Limits(new_tokens=16)),
        Level(Limits(new_tokens=8)),
        Level(Limits(0.5, 8)),
        Level(Limits(0.25, 8)),
        Level(Limits(0.25, 8), stride=2),
        Level(Limits(0.25, 8), stride=4),
    )


def test_a_model_of_one_picture_size_has_no_levels_of_fewer_pixels() -> None:
    assert {level.limits.picture_share for level in levels(Settings(), takes_any_size=False)} == {
        1.0
    }
    assert [level.stride for level in levels(Settings(), takes_any_size=False)] == [1, 1, 1, 2, 4]


@pytest.mark.parametrize(
    ("longest", "minimum", "expected"),
    [
        (32, 8, [None, 16, 8]),
        (32, 12, [None, 16, 12]),
        (32, 16, [None, 16]),
        (32, 32, [None]),
        (6, 8, [None]),
        (3, 1, [None, 1]),
    ],
)
def test_utterances_keep_their_least_length_and_no_level_changes_nothing(
    longest: int, minimum: int, expected: list[int | None]
) -> None:
    chosen = load_settings(
        {"decision.max_new_tokens": longest, "load_shedding.min_new_tokens": minimum}
    )
    ladder = levels(chosen, takes_any_size=False)
    assert [level.limits.new_tokens for level in ladder if level.stride == 1] == expected
    assert len(set(ladder)) == len(ladder)


def test_what_is_held_back_is_said_in_words() -> None:
    assert str(Level()) == "nothing held back"
    assert (
        str(Level(Limits(0.25, 8), 2))
        == "utterances of at most 8 tokens, 25% of a picture's pixels, a look at every 2nd beat"
        " only"
    )


def test_steps_in_time_change_nothing() -> None:
    assert set(run(governor(), linear(ALLOWANCE_S), 500)) == {0}


@pytest.mark.parametrize("every", [2 * WINDOW, WINDOW, 3])
def test_long_answers_now_and_then_change_nothing(every: int) -> None:
    subject = governor()
    for step in range(500):
        subject.observe(60.0 if step % every == 0 else 0.1)
        assert subject.level == 0


def test_a_single_slow_step_changes_nothing_however_the_window_is_set() -> None:
    subject = governor(load_shedding__window_steps=2, load_shedding__overrun_share=0.01)
    run(subject, linear(0.1), 10)
    assert not subject.observe(60.0)
    assert subject.observe(60.0)


def test_half_of_the_window_over_its_time_makes_it_worse_by_one_level() -> None:
    subject = governor()
    assert run(subject, linear(0.5), WINDOW // 2) == [0] * (WINDOW // 2 - 1) + [1]
    assert subject.next_step == Level(Limits(new_tokens=16))


def test_each_level_is_judged_by_steps_of_its_own() -> None:
    assert changes(run(governor(), linear(9.0), 100)) == [
        WINDOW // 2 * number - 1 for number in range(1, 7)
    ]


def test_a_load_that_nothing_helps_against_ends_at_the_worst_level_and_says_so() -> None:
    subject = governor()
    assert run(subject, linear(9.0), 1000)[-900:] == [subject.worst] * 900
    assert subject.runs_over


def test_looking_less_often_gives_a_step_more_time() -> None:
    subject = governor(takes_any_size=False)
    run(subject, linear(1.5 * ALLOWANCE_S), 1000)
    assert (subject.degradation.stride, subject.runs_over) == (2, False)


@settings(deadline=None, max_examples=50)
@given(load=loads, takes_any_size=st.booleans())
def test_a_load_that_stays_is_met_at_one_level_the_first_that_fits(
    load: Cost, takes_any_size: bool
) -> None:
    subject = governor(takes_any_size)
    ladder = levels(load_settings(SETTINGS), takes_any_size)
    fitting = [
        number for number, level in enumerate(ladder) if load(level) <= ALLOWANCE_S * level.stride
    ]
    expected = fitting[0] if fitting else len(ladder) - 1
    assert set(run(subject, load, 1000)[WINDOW * len(ladder) :]) == {expected}


@settings(deadline=None, max_examples=50)
@given(load=loads, factor=st.floats(1.0, 5.0), takes_any_size=st.booleans())
def test_a_heavier_load_is_never_met_at_a_better_level(
    load: Cost, factor: float, takes_any_size: bool
) -> None:
    light = run(governor(takes_any_size), load, 600)
    heavy = run(governor(takes_any_size), lambda level: factor * load(level), 600)
    assert all(more >= less for more, less in zip(heavy, light, strict=True))


@settings(deadline=None, max_examples=50)
@given(
    load=loads, stays=st.integers(0, 2000), rest=st.floats(0.0, 0.9), takes_any_size=st.booleans()
)
def test_when_the_load_is_gone_nothing_is_held_back_any_more(
    load: Cost, stays: int, rest: float, takes_any_size: bool
) -> None:
    subject = governor(takes_any_size)
    run(subject, load, stays)
    within = sum(
        max(1, MOST_PATIENCE >> level) * CLEAN + 2 * TRIAL_STEPS for level in range(subject.worst)
    )
    back = run(subject, linear(rest * ALLOWANCE_S), within)
    assert back == sorted(back, reverse=True)
    assert back[-1] == 0


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), mean=st.floats(0.1, 2.0), spread=st.floats(0.0, 1.0))
def test_a_load_that_jitters_about_the_border_of_a_level_does_not_flip_it_every_few_steps(
    seed: int, mean: float, spread: float
) -> None:
    noise = random.Random(seed)
    subject = governor()
    seen = run(
        subject,
        lambda level: (
            linear(0.1, 0.2, 0.4)(level) * mean * (1.0 + spread * (2.0 * noise.random() - 1.0))
        ),
        4000,
    )
    better = [step for step in changes(seen) if seen[step] < seen[step - 1]]
    assert all(
        later - earlier >= CLEAN + TRIAL_STEPS
        for earlier, later in zip(better, better[1:], strict=False)
    )
    # A level that does not last is taken up again ever later, so that half an hour at 2 Hz has few
    # changes.
    assert len(better) <= 4000 / (CLEAN * MOST_PATIENCE / 2)


def test_a_load_that_comes_and_goes_with_the_trials_is_tried_ever_more_seldom() -> None:
    subject = governor()
    run(subject, linear(9.0), WINDOW // 2)
    better = []
    for step in range(4000):
        # Cheap while at the worse level and in trials, too dear once the better level is taken up.
        if subject.observe(9.0 if subject.level == 0 else 0.1) and subject.level == 0:
            better.append(step)
    apart = [later - earlier for earlier, later in zip(better, better[1:], strict=False)]
    assert apart[0] < apart[-1]
    assert apart[-1] >= CLEAN * MOST_PATIENCE


def test_a_trial_runs_as_at_the_better_level_and_one_slow_step_ends_it() -> None:
    subject = governor()
    run(subject, linear(9.0), WINDOW // 2)
    run(subject, linear(0.1), CLEAN)
    assert (subject.level, subject.next_step) == (1, Level())
    subject.observe(0.39)  # in time, but too close to the border to last
    assert (subject.level, subject.next_step) == (1, Level(Limits(new_tokens=16)))


def test_a_step_that_would_not_fit_as_it_is_makes_no_trial() -> None:
    subject = governor(takes_any_size=False)
    tried = []
    for _ in range(1000):
        subject.observe(1.5 * ALLOWANCE_S)
        tried.append(
            subject.level - 1 if subject.next_step.stride < subject.degradation.stride else None
        )
    assert subject.degradation.stride == 2
    assert set(tried) == {None}


def test_where_it_is_not_wanted_nothing_is_held_back() -> None:
    subject = governor(load_shedding__enabled=False)
    assert set(run(subject, linear(9.0), 200)) == {0}
    assert subject.next_step == Level()


def test_settings_that_change_take_effect_at_the_next_step() -> None:
    live = load_settings(SETTINGS)
    subject = LoadGovernor(live, takes_any_size=True)
    run(subject, linear(9.0), 100)
    live.load_shedding.min_new_tokens = 32
    assert (subject.next_step.limits.new_tokens, subject.level) == (None, subject.worst)
    live.load_shedding.enabled = False
    assert (subject.level, subject.next_step) == (0, Level())
    subject.observe(9.0)
    live.load_shedding.enabled = True
    assert subject.level == 0
    live.stream.rate_hz = 0.1
    assert set(run(subject, linear(7.9), 100)) == {0}
    live.load_shedding.budget = 0.5
    assert run(subject, linear(7.9), WINDOW)[-1] > 0


def test_each_change_is_logged_once_with_its_direction(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    subject = governor()
    run(subject, linear(0.5), WINDOW // 2)
    run(subject, linear(0.1), 10 * CLEAN)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "steps take longer than 400 ms; now utterances of at most 16 tokens (level 1 of 6)",
        ),
        (
            logging.INFO,
            "steps fit into their time at a better level; now nothing held back (level 0 of 6)",
        ),
    ]
