"""SW-F1: the published score for speaking at the right time, and a version with equal weights.

Streaming Harness (arXiv 2606.08615, Streaming-Eval) gives every due answer a time window. A window
with a right answer is a hit (TP), a window without one is a miss (FN), and speech outside all
windows is a false alarm (FP): SW-F1 = 2 TP / (2 TP + 0.2 FP + 2 FN). Ten false alarms cost as much
as one miss, and wrong words inside a window cost nothing more than the miss. A model that speaks at
every tick therefore loses little.

The version with equal weights counts every utterance that is not the one right answer of a window
as a false alarm: TP / (TP + FP + FN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

W_TP, W_FP, W_FN = 2.0, 0.2, 2.0


@dataclass(frozen=True)
class Window:
    """The time window in which `answer` is due, in seconds of stream time, both ends inclusive."""

    start: float
    end: float
    answer: str


@dataclass(frozen=True)
class Speech:
    """Words said at `t` seconds of stream time."""

    t: float
    text: str


IsRight = Callable[[str, str], bool]
"""Called with (text that was said, text that is due); returns True if it is right."""


@dataclass(frozen=True)
class SpeakingScore:
    """Counts over any number of streams; add scores with `+`.

    Attributes:
        tp: windows with a right answer.
        fn: windows without a right answer.
        outside: utterances outside all windows, the published false alarms.
        needless: utterances that are not the first right answer of a window: wrong, repeated or
            outside.
    """

    tp: int = 0
    fn: int = 0
    outside: int = 0
    needless: int = 0

    def __add__(self, other: SpeakingScore) -> SpeakingScore:
        return SpeakingScore(
            self.tp + other.tp,
            self.fn + other.fn,
            self.outside + other.outside,
            self.needless + other.needless,
        )

    @property
    def published(self) -> float:
        """The published SW-F1, in 0..1; 1 if nothing was due and nothing was said."""
        return _ratio(W_TP * self.tp, W_FP * self.outside, W_FN * self.fn)

    @property
    def equal_weights(self) -> float:
        """The same score, but every needless utterance costs as much as a miss."""
        return _ratio(self.tp, self.needless, self.fn)

    def as_dict(self) -> dict[str, float]:
        """Both scores with their counts, as plain values for JSON."""
        counts = {
            "windows": self.tp + self.fn,
            "hits": self.tp,
            "outside_windows": self.outside,
            "needless": self.needless,
        }
        return {
            "sw_f1_published": self.published,
            "sw_f1_equal_weights": self.equal_weights,
            **counts,
        }


def _ratio(hits: float, alarms: float, misses: float) -> float:
    whole = hits + alarms + misses
    return hits / whole if whole else 1.0


def score_speaking(
    said: Sequence[Speech], windows: Sequence[Window], is_right: IsRight
) -> SpeakingScore:
    """Score what was said in one stream.

    An utterance counts for one window only: of the windows that it answers and that are still
    unanswered, the one that ends first.
    """
    answered: set[int] = set()
    outside = needless = 0
    for speech in sorted(said, key=lambda speech: speech.t):
        inside = [
            index for index, window in enumerate(windows) if window.start <= speech.t <= window.end
        ]
        outside += not inside
        fitting = [
            index
            for index in inside
            if index not in answered and is_right(speech.text, windows[index].answer)
        ]
        if fitting:
            answered.add(min(fitting, key=lambda index: windows[index].end))
        else:
            needless += 1
    return SpeakingScore(len(answered), len(windows) - len(answered), outside, needless)
