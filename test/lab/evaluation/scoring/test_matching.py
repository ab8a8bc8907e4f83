"""Event F1 counts each true event once and accepts small timing errors only."""

from __future__ import annotations

import itertools
import random

import pytest

from stream_vlm.run_records import TimedEvent
from stream_vlm_lab.evaluation.scoring.matching import match_events, score_events


def event(label: str, end: float, camera: str = "") -> TimedEvent:
    return TimedEvent(label, end - 1.0, end, camera=camera)


DOOR = "door opens"
LAMP = "lamp turns on"
CUP = "hand takes the red cup"


def test_a_claim_that_says_the_same_within_the_tolerance_matches() -> None:
    score = score_events([event(DOOR, 11.0)], [event(DOOR, 10.0)])
    assert (score.labelled.tp, score.labelled.fp, score.labelled.fn) == (1, 0, 0)
    assert score.labelled.f1 == 1.0
    assert score.labelled.timing_error_s == pytest.approx(1.0)


@pytest.mark.parametrize(("off_by", "matched"), [(1.5, 1), (-1.5, 1), (1.51, 0), (-1.51, 0)])
def test_the_tolerance_is_on_the_end_and_inclusive(off_by: float, matched: int) -> None:
    assert score_events([event(DOOR, 10.0 + off_by)], [event(DOOR, 10.0)]).labelled.tp == matched


def test_a_wrong_label_is_a_false_alarm_and_a_miss_but_right_in_time() -> None:
    score = score_events([event(LAMP, 10.0)], [event(DOOR, 10.0)])
    assert (score.labelled.tp, score.labelled.fp, score.labelled.fn) == (0, 1, 1)
    assert score.class_agnostic.f1 == 1.0


def test_a_second_claim_about_the_same_event_is_a_false_alarm() -> None:
    score = score_events([event(DOOR, 9.8), event(DOOR, 10.2)], [event(DOOR, 10.0)])
    assert (score.labelled.tp, score.labelled.fp, score.labelled.fn) == (1, 1, 0)
    assert score.labelled.f1 == pytest.approx(2 / 3)


def test_the_colour_has_a_score_of_its_own() -> None:
    score = score_events(
        [event("hand takes the blue cup", 10.0), event(DOOR, 20.0)],
        [event(CUP, 10.0), event(DOOR, 20.0)],
    )
    assert score.labelled.f1 == 1.0
    assert score.colour_accuracy == 0.0


def test_doors_and_lamps_have_no_colour_score() -> None:
    assert score_events([event(DOOR, 1.0)], [event(DOOR, 1.0)]).colour_accuracy is None


def test_a_label_that_is_no_simulated_caption_must_match_word_for_word() -> None:
    truth = [event("a cat jumps onto the table", 5.0)]
    assert score_events([event("A cat  jumps onto the table", 5.0)], truth).labelled.tp == 1
    assert score_events([event("a cat jumps", 5.0)], truth).labelled.tp == 0


def test_a_claim_of_another_camera_does_not_match() -> None:
    assert score_events([event(DOOR, 5.0, "left")], [event(DOOR, 5.0, "right")]).labelled.tp == 0
    assert score_events([event(DOOR, 5.0, "left")], [event(DOOR, 5.0)]).labelled.tp == 1


def test_f1_is_1_without_events_and_claims_and_0_if_only_one_side_has_any() -> None:
    assert score_events([], []).labelled.f1 == 1.0
    assert score_events([], [event(DOOR, 1.0)]).labelled.f1 == 0.0
    assert score_events([event(DOOR, 1.0)], []).labelled.f1 == 0.0


def test_the_matching_is_not_greedy() -> None:
    # The nearest true event of the first claim is the only possible one of the second claim.
    claimed, truth = [event(DOOR, 11.0), event(DOOR, 12.4)], [event(DOOR, 9.6), event(DOOR, 11.3)]
    assert score_events(claimed, truth).labelled.tp == 2


def test_the_matching_is_as_good_as_the_best_of_all_assignments() -> None:
    chance = random.Random(5)
    for _ in range(200):
        claimed = [event(DOOR, chance.uniform(0, 8)) for _ in range(chance.randint(0, 4))]
        truth = [event(DOOR, chance.uniform(0, 8)) for _ in range(chance.randint(0, 4))]
        matching = match_events(claimed, truth, 1.5, lambda label: label)
        error = sum(abs(claimed[left].t_end - truth[right].t_end) for left, right in matching.pairs)
        assert (
            len({left for left, _ in matching.pairs})
            == len({right for _, right in matching.pairs})
            == matching.tp
        )
        expected = min(
            (
                -len(pairs),
                sum(abs(claimed[left].t_end - truth[right].t_end) for left, right in pairs),
            )
            for size in range(min(len(claimed), len(truth)) + 1)
            for lefts in itertools.combinations(range(len(claimed)), size)
            for rights in itertools.permutations(range(len(truth)), size)
            for pairs in [list(zip(lefts, rights, strict=True))]
            if all(abs(claimed[left].t_end - truth[right].t_end) <= 1.5 for left, right in pairs)
        )
        assert (-matching.tp, pytest.approx(error)) == expected
