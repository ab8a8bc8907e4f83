"""Each loss equals the value that was calculated by hand; the expected numbers are literals."""

from __future__ import annotations

import math

import pytest
import torch

from stream_vlm.types import State, StreamError
from stream_vlm_lab.training.common.losses import (
    OBJECTIVES,
    NothingToLearn,
    Objective,
    TargetKind,
    count_kinds,
    marker_kinds,
    plain_factors,
)
from stream_vlm_lab.training.data.sample import SampleTurn, StreamSample
from stream_vlm_lab.training.finetune.chunks import overlapped_chunks

SILENT, AGAIN, STANDBY, RESPONSE, REST = (
    TargetKind.FIRST_SILENCE,
    TargetKind.FURTHER_SILENCE,
    TargetKind.STANDBY,
    TargetKind.RESPONSE,
    TargetKind.REST,
)
LN2, LN4, LN8 = 0.69314718, 1.38629436, 2.07944154


def batch(*rows: tuple[TargetKind, float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and kinds; token 0 of 2 is correct and has the probability of its row."""
    logits = torch.tensor(
        [[math.log(right), math.log(1.0 - right)] for _, right in rows], requires_grad=True
    )
    return (
        logits,
        torch.zeros(len(rows), dtype=torch.long),
        torch.tensor([int(kind) for kind, _ in rows]),
    )


def test_silence_right_after_silence_is_a_further_one_and_any_other_state_ends_the_run() -> None:
    silence, standby, response = State.SILENCE, State.STANDBY, State.RESPONSE
    states = [silence, silence, silence, standby, silence, response, silence, silence]
    assert marker_kinds(states) == [SILENT, AGAIN, AGAIN, STANDBY, SILENT, RESPONSE, SILENT, AGAIN]


# Cross entropies: 1/2 -> ln 2, 1/4 -> ln 4, 1/8 -> ln 8.
FIVE = ((SILENT, 0.5), (AGAIN, 0.25), (AGAIN, 0.5), (RESPONSE, 0.125), (REST, 0.5))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # (ln 2 + ln 4 + ln 2 + ln 8 + ln 2) / 5 = 8 ln 2 / 5
        ("ce", 1.10903549),
        # (1 ln 2 + 0.8 ln 4 + 0.8 ln 2 + 1.5 ln 8 + 1 ln 2) / 5 = (1 + 1.6 + 0.8 + 4.5 + 1) ln 2 /
        # 5 = 8.9 ln 2 / 5
        ("weighted", 1.23380198),
        # (1 + 0.8 + 0.4 + 4.5 + 1) ln 2 / (1 + 0.4 + 0.4 + 1.5 + 1) = 7.7 ln 2 / 4.3
        ("weighted-sum", 1.24121704),
        # (1 ln 2 + 1 ln 4 + 1 ln 2 + 4 ln 8 + 1 ln 2) / (1 + 1 + 1 + 4 + 1) = 17 ln 2 / 8
        ("fixed", 1.47293776),
    ],
)
def test_cross_entropy_is_weighted_as_published(name: str, expected: float) -> None:
    assert OBJECTIVES[name].loss(*batch(*FIVE)).item() == pytest.approx(expected, abs=1e-6)


def test_the_focal_loss_balances_the_states_and_uses_plain_cross_entropy_for_words() -> None:
    # Six state markers: 3 silences, 1 standby, 2 responses. alpha = 6 / (3 * 3) = 2/3, 6 / (3 * 1)
    # = 2, 6 / (3 * 2) = 1.
    rows = (
        (SILENT, 0.5),
        (AGAIN, 0.5),
        (SILENT, 0.75),
        (STANDBY, 0.25),
        (RESPONSE, 0.5),
        (RESPONSE, 0.125),
        (REST, 0.25),
        (REST, 0.5),
    )
    by_hand = (
        2 / 3 * 0.25 * LN2  # (1 - 1/2)^2 = 1/4
        + 2 / 3 * 0.25 * LN2
        + 2 / 3 * 0.0625 * 0.28768207  # (1 - 3/4)^2 = 1/16, ln 4/3
        + 2.0 * 0.5625 * LN4  # (1 - 1/4)^2 = 9/16
        + 1.0 * 0.25 * LN2
        + 1.0 * 0.765625 * LN8  # (1 - 1/8)^2 = 49/64
        + LN4
        + LN2
    ) / 8
    assert by_hand == pytest.approx(0.70592722, abs=1e-6)
    assert OBJECTIVES["focal"].loss(*batch(*rows)).item() == pytest.approx(0.70592722, abs=1e-6)


def test_the_focal_loss_ignores_states_that_do_not_occur() -> None:
    # 3 silences and 1 response: |S| = 2, alpha = 4 / (2 * 3) = 2/3 and 4 / (2 * 1) = 2; every (1 -
    # p)^2 ln 2 is 0.25 * 0.69314718.
    rows = ((SILENT, 0.5), (AGAIN, 0.5), (AGAIN, 0.5), (RESPONSE, 0.5))
    # (3 * 2/3 + 2) * 0.17328680 / 4
    assert OBJECTIVES["focal"].loss(*batch(*rows)).item() == pytest.approx(0.17328680, abs=1e-6)


def test_a_step_without_state_markers_is_plain_cross_entropy_under_every_loss() -> None:
    for objective in OBJECTIVES.values():
        assert objective.loss(*batch((REST, 0.5), (REST, 0.25))).item() == pytest.approx(
            1.03972077, abs=1e-6
        )  # 3 ln 2 / 2


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_finite_at_probability_1_and_at_probability_0(name: str) -> None:
    logits = torch.tensor([[80.0, -80.0], [-80.0, 80.0], [0.0, 0.0]], requires_grad=True)
    kinds = torch.tensor([int(SILENT), int(RESPONSE), int(REST)])
    OBJECTIVES[name].loss(logits, torch.zeros(3, dtype=torch.long), kinds).backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    # The token with probability 0 gets the full gradient.
    assert logits.grad[1, 0] < -0.3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_without_targets_is_refused_and_a_micro_batch_without_targets_adds_zero(
    name: str,
) -> None:
    logits, targets, kinds = (
        torch.zeros(0, 2, requires_grad=True),
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, dtype=torch.long),
    )
    with pytest.raises(NothingToLearn, match="no token to learn"):
        OBJECTIVES[name].loss(logits, targets, kinds)
    assert (
        OBJECTIVES[name].total(logits, targets, kinds, torch.tensor([3, 1, 1, 0, 1])).item() == 0.0
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_micro_batches_have_the_same_loss_as_one(name: str) -> None:
    objective, (logits, targets, kinds) = OBJECTIVES[name], batch(*FIVE)
    counts = count_kinds(kinds)
    halves = [
        objective.total(logits[part], targets[part], kinds[part], counts)
        for part in (slice(0, 2), slice(2, 5))
    ]
    assert (torch.stack(halves).sum() / objective.divisor(counts)).item() == pytest.approx(
        objective.loss(logits, targets, kinds).item(), abs=1e-6
    )


def test_a_focus_between_0_and_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5 is neither 0 nor at least 1"):
        Objective(plain_factors, focus=0.5)


def seconds_of(count: int) -> StreamSample:
    """Turns of silence of 1 s; turns 3, 13, 23, ... are responses with the turn's number."""
    turns = [SampleTurn(float(at), at + 1.0, State.SILENCE) for at in range(count)]
    for at in range(3, count, 10):
        turns[at] = SampleTurn(float(at), at + 1.0, State.RESPONSE, f"w{at}")
    return StreamSample("a.mp4", tuple(turns))


def test_chunks_are_24_seconds_that_overlap_by_12_and_the_last_ends_with_the_sample() -> None:
    spans = [
        (chunk.turns[0].start_s, chunk.turns[-1].end_s)
        for chunk in overlapped_chunks(seconds_of(50))
    ]
    assert spans == [(0.0, 24.0), (12.0, 36.0), (24.0, 48.0), (36.0, 50.0)]
    assert [len(chunk.turns) for chunk in overlapped_chunks(seconds_of(24))] == [24]
    assert [len(chunk.turns) for chunk in overlapped_chunks(seconds_of(50), 20.0, 0.0)] == [
        20,
        20,
        10,
    ]


def test_a_chunk_has_the_text_before_it_and_the_question_that_is_still_active() -> None:
    sample = seconds_of(30)
    turns = list(sample.turns)
    turns[2] = SampleTurn(2.0, 3.0, State.SILENCE, "", "What happens?")
    first, second = overlapped_chunks(StreamSample("a.mp4", tuple(turns), previous_text="before"))
    assert (first.previous_text, second.previous_text) == ("before", "before w3")
    assert [turn.question for turn in second.turns if turn.question] == ["What happens?"]
    assert second.turns[0].question == "What happens?"


def test_an_overlap_as_long_as_its_chunk_is_refused() -> None:
    with pytest.raises(StreamError, match="cannot overlap"):
        list(overlapped_chunks(seconds_of(30), 12.0, 12.0))
