"""SW-F1, the published measure of speaking in time, and beside it one that false alarms cannot
cheat.

Streaming Harness (arXiv 2606.08615, Streaming-Eval) gives every due answer a window. A window with
a right answer in it is a hit, one without a miss, and speech outside all windows is a false alarm:
SW-F1 = 2 TP / (2 TP + 0.2 FP + 2 FN). Ten false alarms cost as much as one miss, and wrong words
inside a window cost nothing beyond the miss, so who speaks at every tick is punished little. The
second figure charges each utterance that is not the one right answer of a window in full: TP / (TP
+ FP + FN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

W_TP, W_FP, W_FN = 2.0, 0.2, 2.0


@dataclass(frozen=True)
class Window:
    """From when to when (seconds of stream, both inclusive) `answer` is due."""

    start: float
    end: float
    answer: str


@dataclass(frozen=True)
class Speech:
    """Words said at `t` (seconds of stream)."""

    t: float
    text: str


IsRight = Callable[[str, str], bool]
"""Whether the first text, which was said, is right where the second is due."""


@dataclass(frozen=True)
class SpeakingScore:
    """Counts over any number of streams; add them up with `+`.

    Attributes:
        tp, fn: windows with and without a right answer.
        outside: utterances outside every window: the published false alarms.
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
        """SW-F1 in [0, 1]; 1 when nothing was due and nothing was said."""
        return _ratio(W_TP * self.tp, W_FP * self.outside, W_FN * self.fn)

    @property
    def full(self) -> float:
        """The same with every false alarm charged like a miss."""
        return _ratio(self.tp, self.needless, self.fn)

    def as_dict(self) -> dict[str, float]:
        """Both figures with their counts."""
        counts = {
            "windows": self.tp + self.fn,
            "hits": self.tp,
            "outside_windows": self.outside,
            "needless": self.needless,
        }
        return {"sw_f1_published": self.published, "sw_f1_full_charge": self.full, **counts}


def _ratio(hits: float, alarms: float, misses: float) -> float:
    whole = hits + alarms + misses
    return hits / whole if whole else 1.0


def score_speaking(
    said: Sequence[Speech], windows: Sequence[Window], is_right: IsRight
) -> SpeakingScore:
    """Judge what was said in one stream.

    An utterance serves one window only: the one with the earliest end among those that it is right
    for and that no earlier one has served.
    """
    served: set[int] = set()
    outside = needless = 0
    for speech in sorted(said, key=lambda speech: speech.t):
        inside = [
            index for index, window in enumerate(windows) if window.start <= speech.t <= window.end
        ]
        outside += not inside
        fitting = [
            index
            for index in inside
            if index not in served and is_right(speech.text, windows[index].answer)
        ]
        if fitting:
            served.add(min(fitting, key=lambda index: windows[index].end))
        else:
            needless += 1
    return SpeakingScore(len(served), len(windows) - len(served), outside, needless)
