"""The name of a scripted model says how it errs, and draws depend on their names alone."""

from __future__ import annotations

import pytest

from stream_vlm_lab.evaluation.scripted_vlm.quirks import Dice, Quirks, QuirksError, parse_quirks


def test_a_name_without_settings_is_a_model_without_noise() -> None:
    assert parse_quirks("scripted") == parse_quirks("scripted:") == Quirks()


def test_settings_are_read_by_their_types() -> None:
    quirks = parse_quirks("scripted:miss=0.05, prefix=Response,language=wrong,hold=2,seed=3")
    assert quirks == Quirks(miss=0.05, prefix="Response", language="wrong", hold=2.0, seed=3)


def test_noise_sets_every_mistake_that_is_not_given() -> None:
    quirks = parse_quirks("scripted:noise=0.2,late=0")
    assert (quirks.miss, quirks.false_alarm, quirks.describe, quirks.ignore) == (0.2,) * 4
    assert quirks.late == 0.0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("qwen", "is not a scripted model"),
        ("scripted:mis=0.1", "there is no 'mis'; use chatter, describe"),
        ("scripted:miss=much", "miss=much is not a number"),
        ("scripted:miss=1.5", "miss=1.5 is refused; use 0 to 1"),
        ("scripted:hold=-1", "hold=-1 is refused; use 0 to inf"),
        ("scripted:language=polish", "use right or wrong"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(QuirksError, match=reason):
        parse_quirks(name)


def test_draws_are_even_and_always_the_same() -> None:
    draws = [Dice((1, tick)).draw("miss") for tick in range(4000)]
    assert draws == [Dice((1, tick)).draw("miss") for tick in range(4000)]
    assert sum(draw < 0.25 for draw in draws) / 4000 == pytest.approx(0.25, abs=0.02)
    assert sum(draws) / 4000 == pytest.approx(0.5, abs=0.02)


def test_draws_of_different_names_do_not_depend_on_each_other() -> None:
    pairs = [(Dice((tick,)).draw("a") < 0.5, Dice((tick,)).draw("b") < 0.5) for tick in range(4000)]
    assert sum(one and other for one, other in pairs) / 4000 == pytest.approx(0.25, abs=0.03)
