"""What a scripted model thinks of the newest picture, before it is put into words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stream_vlm.types import State
from stream_vlm_lab.evaluation.scripted_vlm.meanings import kinds_of_events
from stream_vlm_lab.evaluation.scripted_vlm.quirks import Dice, Quirks
from stream_vlm_lab.evaluation.scripted_vlm.request_reader import Asked, Report
from stream_vlm_lab.evaluation.scripted_vlm.sentences import (
    description_of,
    invented_sentence,
    sentence_of,
)
from stream_vlm_lab.evaluation.scripted_vlm.sight import Sight
from stream_vlm_lab.simulation.script.script import Event

SAME_S = 1.0
"""A report up to this long before an event was seen can still be about it: labels are rounded."""
LATE_S = (1.0, 3.0)
"""How much later a late event is noticed, seconds."""
CERTAIN, UNSURE = (0.6, 0.98), (0.4, 0.85)
"""Range of the probability of what is answered, where it is right and where it is a mistake."""


@dataclass(frozen=True)
class Verdict:
    """What a model answers about a picture.

    Attributes:
        state: the state.
        sentence: what happened; empty unless `state` is RESPONSE.
        probability: probability of `state`.
    """

    state: State
    sentence: str
    probability: float


def judge(asked: Asked, sight: Sight, quirks: Quirks) -> Verdict:
    """Judge the newest picture for `asked.instruction`."""
    dice = dice_for(asked.instruction, sight, quirks)
    told = list(_told(asked, sight, quirks, dice))
    patterns = sorted(kinds_of_events(asked.instruction), key=lambda kind: kind.words)
    wanted = [
        (event, seen_s)
        for event in sight.complete
        if any(pattern.matches(event) for pattern in patterns)
        and (seen_s := _noticed_s(event, asked.instruction, sight, quirks)) <= sight.newest.t_s
        and sight.newest.t_s - seen_s <= quirks.lasts
    ]
    fresh = [
        event
        for event, seen_s in wanted
        if not any(_is_about(report, event, seen_s) for report in told)
    ]
    missed = dice.happens(quirks.miss, "miss")
    if fresh and not missed:
        return _verdict(State.RESPONSE, sentence_of(fresh[-1], quirks.language), CERTAIN, dice)
    if dice.happens(quirks.false_alarm, "false alarm"):
        sentence = invented_sentence(patterns, dice, quirks.language)
        state = State.STANDBY if _was_said(sentence, told) else State.RESPONSE
        return _verdict(state, sentence, UNSURE, dice)
    kinds = {pattern.kind for pattern in patterns}
    there = [thing for thing in sight.present if thing[0] in kinds]
    if there and dice.happens(quirks.describe, "describe"):
        sentence = description_of(*there[0], quirks.language)
        state = State.STANDBY if _was_said(sentence, told) else State.RESPONSE
        return _verdict(state, sentence, UNSURE, dice)
    event = sight.under_way
    if event is not None and any(pattern.matches(event) for pattern in patterns):
        noticed = dice.happens(quirks.standby, "standby")
        return _verdict(State.STANDBY if noticed else State.SILENCE, "", CERTAIN, dice)
    if wanted and not fresh and dice.happens(quirks.goes_on, "goes on"):
        return _verdict(State.STANDBY, "", UNSURE, dice)
    return _verdict(State.SILENCE, "", UNSURE if fresh else CERTAIN, dice)


def is_true(
    sentence: str, sight: Sight, quirks: Quirks, *, must_have_happened: bool = False
) -> bool:
    """Whether the last pictures show what `sentence` says.

    Args:
        sentence: the sentence.
        sight: what the pictures show.
        quirks: how long an event counts as seen in the last pictures.
        must_have_happened: whether a sentence about something that is merely there is no.
    """
    recent = [
        event
        for event in sight.complete
        if sight.newest.t_s - event.t_end <= quirks.lasts + LATE_S[1]
    ]
    if sight.under_way is not None:
        recent.append(sight.under_way)
    said = [sentence_of(event, language) for event in recent for language in ("right", "wrong")]
    said += [
        description_of(kind, colour, language)
        for kind, colour in sight.present
        for language in ("right", "wrong")
        if not must_have_happened
    ]
    return any(_bare(one) in _bare(sentence) for one in said)


def dice_for(about: str, sight: Sight, quirks: Quirks) -> Dice:
    """The dice of the newest picture: another one for each instruction, picture or hold."""
    moment = int(sight.newest.t_s // quirks.hold) if quirks.hold else sight.newest.t_ms
    return Dice((quirks.seed, sight.newest.seed, about, moment))


def _verdict(state: State, sentence: str, span: tuple[float, float], dice: Dice) -> Verdict:
    low, high = span
    probability = low + (high - low) * dice.draw("probability")
    return Verdict(state, sentence if state is State.RESPONSE else "", probability)


def _noticed_s(event: Event, instruction: str, sight: Sight, quirks: Quirks) -> float:
    """When the end of `event` is noticed, seconds of the stream."""
    dice = Dice((quirks.seed, sight.newest.seed, instruction, event.t_end))
    if not dice.happens(quirks.late, "late"):
        return event.t_end
    return event.t_end + LATE_S[0] + (LATE_S[1] - LATE_S[0]) * dice.draw("how late")


def _told(asked: Asked, sight: Sight, quirks: Quirks, dice: Dice) -> Iterator[tuple[Report, float]]:
    """The reports that the model minds, each with its time in seconds of the stream."""
    label_s = asked.pictures[-1].label_s
    offset_s = None if label_s is None else sight.newest.t_s - label_s

    def timed(report: Report) -> tuple[Report, float]:
        if offset_s is None or report.label_s is None:
            return report, sight.newest.t_s
        return report, report.label_s + offset_s

    if asked.reported is not None and not dice.happens(quirks.ignore, "ignore"):
        yield timed(asked.reported)
    if dice.happens(quirks.own_words, "own words"):
        yield from map(timed, asked.own_words)


def _is_about(told: tuple[Report, float], event: Event, seen_s: float) -> bool:
    report, t_s = told
    same = any(
        _bare(sentence_of(event, language)) in _bare(report.text) for language in ("right", "wrong")
    )
    return same and seen_s <= t_s + SAME_S


def _was_said(sentence: str, told: Sequence[tuple[Report, float]]) -> bool:
    return any(_bare(sentence) in _bare(report.text) for report, _ in told)


def _bare(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
