"""Requests of the form "tell me when" on simulated streams.

What is waited for, and whether a watcher spoke when it came, and only then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_vlm.run_records import TimedUtterance
from stream_vlm_lab.evaluation.online.online_pass import TimedQuestion, Watched
from stream_vlm_lab.evaluation.scoring.matching import same_happening
from stream_vlm_lab.evaluation.scoring.scores import EARLY_S, LATE_S
from stream_vlm_lab.simulation.labels.askable_times import Moments
from stream_vlm_lab.simulation.labels.event_pattern import wanted_by
from stream_vlm_lab.simulation.labels.tasks import NEVER_SHARE, never

WAITS_ON_S = 10.0
"""So long after what it waits for a watch stays active: who speaks then is late."""
IN_VAIN_S = 30.0
"""So long is waited for what does not come."""
BETWEEN_S = 2.0
"""From the end of one watch to the next."""
OUTCOMES = ("right", "late", "missed", "false", "rightly silent")


@dataclass(frozen=True)
class Watch:
    """Something waited for from `question.t` to `question.until`; `due` is when a picture shows it,
    None where it does not come. Seconds.
    """

    question: TimedQuestion
    due: float | None


def plan_watches(moments: Moments, ticks: Sequence[float]) -> list[Watch]:
    """Watches one after the other over a stream, none while another is active; `ticks` are the
    moments (s) of its pictures.

    Each begins at a tick at which nothing is under way. What is waited for is one of the next few
    events, so that others come before it, or now and then something that does not come.
    """
    rng = np.random.default_rng([moments.script.seed, 0x3A7C4])
    watches: list[Watch] = []
    now = BETWEEN_S
    while True:
        start = next(
            (
                t_s
                for t_s in ticks
                if t_s >= now
                and moments.script.at(t_s)[1] is None
                and moments.seen_from(t_s) == t_s
            ),
            None,
        )
        if start is None:
            return watches
        coming = moments.after(start)
        in_vain = not coming or rng.random() < NEVER_SHARE
        end = moments.script.duration_s
        if in_vain:
            until, due, label = start + IN_VAIN_S, None, ""
            wanted = never([seen for seen in coming if seen.t_start <= until], rng)
        else:
            chosen = coming[int(rng.integers(min(3, len(coming))))]
            wanted = wanted_by(chosen.event, any_colour=bool(rng.random() < 0.5))
            first = moments.first(wanted, start)
            assert first is not None
            due, label, until = first.t_end, first.event.label, first.t_end + WAITS_ON_S
        if until <= end or not in_vain:
            question = TimedQuestion(
                start,
                f"Tell me when {wanted.words}.",
                label,
                "tell me when",
                is_watch=True,
                until=min(until, end),
            )
            watches.append(Watch(question, due))
        now = until + BETWEEN_S


def outcome_of(watch: Watch, said: Sequence[TimedUtterance]) -> str:
    """One of `OUTCOMES`, by the first words while the watch was active.

    right: from half a second before it was due until three seconds after; late: after that; false:
    before that, or at all where nothing was due; missed and rightly silent: no words.
    """
    first = next((words.t for words in said if _while_active(watch, words)), None)
    if watch.due is None:
        return "rightly silent" if first is None else "false"
    if first is None:
        return "missed"
    if first < watch.due - EARLY_S:
        return "false"
    return "right" if first <= watch.due + LATE_S else "late"


def _while_active(watch: Watch, words: TimedUtterance) -> bool:
    until = watch.question.until
    return watch.question.t <= words.t and (until is None or words.t <= until)


def score_watches(streams: Sequence[tuple[Sequence[Watch], Watched]]) -> dict[str, Any]:
    """How often each outcome was, over all streams; for a watcher that cannot be told what to wait
    for, why.

    Attributes of the result: `accuracy` is the share of watches with the right end (right or
    rightly silent), `right_words` how many of the right ones also said the right action and kind of
    thing, `needless_words` how many utterances of all watches were not the first right one.
    """
    refused = [why for _, watched in streams for _, why in watched.refused]
    count = sum(len(watches) for watches, _ in streams)
    if refused:
        return {"watches": count, "refused": len(refused), "why": refused[0]}
    outcomes: Counter[str] = Counter()
    right_words = needless = 0
    for watches, watched in streams:
        for watch in watches:
            outcome = outcome_of(watch, watched.utterances)
            outcomes[outcome] += 1
            said = [words for words in watched.utterances if _while_active(watch, words)]
            needless += len(said) - (outcome == "right")
            right_words += outcome == "right" and same_happening(said[0].text) == same_happening(
                watch.question.answer
            )
    ended_well = outcomes["right"] + outcomes["rightly silent"]
    return {
        "watches": count,
        **{name.replace(" ", "_"): outcomes[name] for name in OUTCOMES},
        "accuracy": ended_well / count if count else None,
        "right_words": right_words,
        "needless_words": needless,
    }


def watched_by_the_labels(watches: Sequence[Watch], ticks: Sequence[float]) -> Watched:
    """What somebody says who sees everything at these ticks (s): each thing waited for, at the
    first tick that shows it.
    """
    watched = Watched()
    for watch in watches:
        tick = next((t_s for t_s in ticks if watch.due is not None and t_s >= watch.due), None)
        if tick is not None:
            watched.utterances.append(TimedUtterance(tick, watch.question.answer))
    return watched
