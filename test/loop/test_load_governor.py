"""The load governor under simulated loads: which limits it sets, in which order, how long."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_vlm.config.settings import Settings, load_settings
from stream_vlm.loop.load_governor import MAX_TRIAL_DELAY, TRIAL_STEPS, Level, LoadGovernor, levels
from stream_vlm.types import Limits

SETTINGS = {"stream.rate_hz": 2.0, "load_shedding.budget": 0.8}
PERIOD_S, ALLOWANCE_S = 0.5, 0.4
CLEAN, WINDOW = 20, 8
"""The defaults of load_shedding.clean_steps and load_shedding.window_steps."""

Cost = Callable[[Level], float]
"""Gives the seconds that a step takes at a level."""


def governor(takes_any_size: bool = True, **changed: object) -> LoadGovernor:
    return LoadGovernor(
        load_settings(
            SETTINGS | {name.replace("__", "."): value for name, value in changed.items()}
        ),
        takes_any_size,
    )


def run(subject: LoadGovernor, cost: Cost, steps: int) -> list[int]:
    """The level after each of `steps` steps, whose durations `cost` gives."""
    seen = []
    for _ in range(steps):
        before = subject.level
        changed = subject.observe(cost(subject.next_step))
        seen.append(subject.level)
        assert changed == (before != subject.level)
        assert abs(before - subject.level) <= 1
    return seen


def changes(seen: list[int]) -> list[int]:
    """The steps at which the level changed."""
    return [step for step in range(1, len(seen)) if seen[step] != seen[step - 1]]


def linear(fixed_s: float, text_s: float = 0.0, pixels_s: float = 0.0) -> Cost:
    """Step durations that fall with the limits.

    Args:
        fixed_s: seconds that no limit changes.
        text_s: seconds for the longest utterance.
        pixels_s: seconds for a picture with all its pixels.
    """

    def cost(level: Level) -> float:
        words = 1.0 if level.limits.new_tokens is None else level.limits.new_tokens / 32
        return fixed_s + text_s * words + pixels_s * level.limits.picture_share

    return cost


loads = st.builds(linear, *[st.floats(0.0, 3.0)] * 3)


def test_levels_limit_text_first_then_pixels_then_the_sampling_rate() -> None:
    assert levels(Settings(), takes_any_size=True) == (
        Level(),
        Level(Limits(new_tokens=16)),
        Level(Limits(new_tokens=8)),
        Level(Limits(0.5, 8)),
        Level(Limits(0.25, 8)),
        Level(Limits(0.25, 8), stride=2),
        Level(Limits(0.25, 8), stride=4),
    )


def test_a_model_with_one_picture_size_has_no_levels_with_smaller_pictures() -> None:
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
def test_utterances_keep_their_minimum_length_and_every_level_differs(
    longest: int, minimum: int, expected: list[int | None]
) -> None:
    chosen = load_settings(
        {"decision.max_new_tokens": longest, "load_shedding.min_new_tokens": minimum}
    )
    ladder = levels(chosen, takes_any_size=False)
    assert [level.limits.new_tokens for level in ladder if level.stride == 1] == expected
    assert len(set(ladder)) == len(ladder)


def test_a_level_describes_its_limits_in_words() -> None:
    assert str(Level()) == "no limits"
    assert str(Level(Limits(0.25, 8), 2)) == (
        "utterances of at most 8 tokens, 25% of a picture's pixels, only every 2nd tick is"
        " processed"
    )


def test_steps_in_time_change_nothing() -> None:
    assert set(run(governor(), linear(ALLOWANCE_S), 500)) == {0}


@pytest.mark.parametrize("every", [2 * WINDOW, WINDOW, 3])
def test_long_answers_now_and_then_change_nothing(every: int) -> None:
    subject = governor()
    for step in range(500):
        subject.observe(60.0 if step % every == 0 else 0.1)
        assert subject.level == 0


def test_a_single_slow_step_changes_nothing_with_any_window() -> None:
    subject = governor(load_shedding__window_steps=2, load_shedding__overrun_share=0.01)
    run(subject, linear(0.1), 10)
    assert not subject.observe(60.0)
    assert subject.observe(60.0)


def test_slow_steps_in_half_of_the_window_raise_the_level_by_one() -> None:
    subject = governor()
    assert run(subject, linear(0.5), WINDOW // 2) == [0] * (WINDOW // 2 - 1) + [1]
    assert subject.next_step == Level(Limits(new_tokens=16))


def test_each_level_counts_only_its_own_steps() -> None:
    assert changes(run(governor(), linear(9.0), 100)) == [
        WINDOW // 2 * number - 1 for number in range(1, 7)
    ]


def test_a_load_that_no_level_can_reduce_ends_at_the_worst_level_and_runs_over() -> None:
    subject = governor()
    assert run(subject, linear(9.0), 1000)[-900:] == [subject.worst] * 900
    assert subject.runs_over


def test_a_stride_gives_a_step_more_time() -> None:
    subject = governor(takes_any_size=False)
    run(subject, linear(1.5 * ALLOWANCE_S), 1000)
    assert (subject.degradation.stride, subject.runs_over) == (2, False)


@settings(deadline=None, max_examples=50)
@given(load=loads, takes_any_size=st.booleans())
def test_a_constant_load_keeps_the_first_level_that_fits(load: Cost, takes_any_size: bool) -> None:
    subject = governor(takes_any_size)
    ladder = levels(load_settings(SETTINGS), takes_any_size)
    fitting = [
        number for number, level in enumerate(ladder) if load(level) <= ALLOWANCE_S * level.stride
    ]
    expected = fitting[0] if fitting else len(ladder) - 1
    assert set(run(subject, load, 1000)[WINDOW * len(ladder) :]) == {expected}


@settings(deadline=None, max_examples=50)
@given(load=loads, factor=st.floats(1.0, 5.0), takes_any_size=st.booleans())
def test_a_heavier_load_never_has_a_better_level(
    load: Cost, factor: float, takes_any_size: bool
) -> None:
    light = run(governor(takes_any_size), load, 600)
    heavy = run(governor(takes_any_size), lambda level: factor * load(level), 600)
    assert all(more >= less for more, less in zip(heavy, light, strict=True))


@settings(deadline=None, max_examples=50)
@given(
    load=loads, stays=st.integers(0, 2000), rest=st.floats(0.0, 0.9), takes_any_size=st.booleans()
)
def test_after_the_load_is_gone_all_limits_are_lifted(
    load: Cost, stays: int, rest: float, takes_any_size: bool
) -> None:
    subject = governor(takes_any_size)
    run(subject, load, stays)
    within = sum(
        max(1, MAX_TRIAL_DELAY >> level) * CLEAN + 2 * TRIAL_STEPS for level in range(subject.worst)
    )
    back = run(subject, linear(rest * ALLOWANCE_S), within)
    assert back == sorted(back, reverse=True)
    assert back[-1] == 0


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), mean=st.floats(0.1, 2.0), spread=st.floats(0.0, 1.0))
def test_a_load_that_varies_around_a_limit_does_not_change_the_level_every_few_steps(
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
    assert all(later - earlier >= CLEAN + TRIAL_STEPS for earlier, later in pairwise(better))
    # After each failure the next trial comes later, so half an hour at 2 Hz has few changes.
    assert len(better) <= 4000 / (CLEAN * MAX_TRIAL_DELAY / 2)


def test_trials_become_rarer_if_the_better_level_fails_each_time() -> None:
    subject = governor()
    run(subject, linear(9.0), WINDOW // 2)
    better = []
    for step in range(4000):
        # Steps are fast at the worse level and in trials, and too slow at the better level.
        if subject.observe(9.0 if subject.level == 0 else 0.1) and subject.level == 0:
            better.append(step)
    apart = [later - earlier for earlier, later in pairwise(better)]
    assert apart[0] < apart[-1]
    assert apart[-1] >= CLEAN * MAX_TRIAL_DELAY


def test_a_trial_has_the_limits_of_the_better_level_and_one_slow_step_ends_it() -> None:
    subject = governor()
    run(subject, linear(9.0), WINDOW // 2)
    run(subject, linear(0.1), CLEAN)
    assert (subject.level, subject.next_step) == (1, Level())
    subject.observe(0.39)  # in time, but without reserve
    assert (subject.level, subject.next_step) == (1, Level(Limits(new_tokens=16)))


def test_a_step_that_is_too_long_for_the_better_level_starts_no_trial() -> None:
    subject = governor(takes_any_size=False)
    tried = []
    for _ in range(1000):
        subject.observe(1.5 * ALLOWANCE_S)
        tried.append(
            subject.level - 1 if subject.next_step.stride < subject.degradation.stride else None
        )
    assert subject.degradation.stride == 2
    assert set(tried) == {None}


def test_switched_off_it_sets_no_limits() -> None:
    subject = governor(load_shedding__enabled=False)
    assert set(run(subject, linear(9.0), 200)) == {0}
    assert subject.next_step == Level()


def test_changed_settings_take_effect_at_the_next_step() -> None:
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
            "steps are fast enough for a better level; now no limits (level 0 of 6)",
        ),
    ]
