"""What a step may cost: less and less while steps run over their time, and all of it again when
they would fit.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from functools import cache

from stream_vlm.config.settings import Settings
from stream_vlm.types import Limits

logger = logging.getLogger(__name__)

TEXT_SHARES = (0.5, 0.25)
"""First the longest utterance is cut to these shares: words come late anyway, and a picture missed
is missed for good.
"""
PICTURE_SHARES = (0.5, 0.25)
"""Then the pictures get these shares of their pixels."""
STRIDES = (2, 4)
"""Last, only every so manieth beat is looked at."""
TRIAL_STEPS = 4
"""Steps that must fit at the better level, one after the other, before it is taken up."""
TRIAL_MARGIN = 0.9
"""They must fit into this share of their time: what only just fits would soon run over."""
MOST_PATIENCE = 8
"""A better level that proved too dear is tried again after longer and longer, up to this many times
`shedding.clean_steps`.
"""
ALONE = 2
"""Fewer steps over their time than this never change anything, however small the window: one long
answer is no load.
"""


@dataclass(frozen=True)
class Level:
    """What is held back while steps run over.

    Attributes:
        limits: of every step.
        stride: every so manieth beat is looked at.
    """

    limits: Limits = Limits()
    stride: int = 1

    def __str__(self) -> str:
        degradation = []
        if self.limits.new_tokens is not None:
            degradation.append(f"utterances of at most {self.limits.new_tokens} tokens")
        if self.limits.picture_share < 1.0:
            degradation.append(f"{self.limits.picture_share:.0%} of a picture's pixels")
        if self.stride > 1:
            degradation.append(
                f"a look at every {self.stride}{'nd' if self.stride == 2 else 'th'} beat only"
            )
        return ", ".join(degradation) or "nothing held back"


def levels(settings: Settings, takes_any_size: bool) -> tuple[Level, ...]:
    """Everything that can be held back, in the order in which it is; each level holds back more
    than the one before.

    Args:
        takes_any_size: False for a model of one fixed picture size, which has no levels of fewer
            pixels.
    """
    return _levels(
        settings.decision.max_new_tokens, settings.load_shedding.min_new_tokens, takes_any_size
    )


@cache
def _levels(longest: int, shortest: int, takes_any_size: bool) -> tuple[Level, ...]:
    shortest = min(longest, shortest)
    ladder = [Level()]
    for text_share in TEXT_SHARES:
        new_tokens = max(shortest, int(longest * text_share))
        if new_tokens < (ladder[-1].limits.new_tokens or longest):
            ladder.append(Level(Limits(new_tokens=new_tokens)))
    new_tokens_left = ladder[-1].limits.new_tokens
    ladder += [Level(Limits(share, new_tokens_left)) for share in PICTURE_SHARES if takes_any_size]
    limits = ladder[-1].limits
    return *ladder, *(Level(limits, stride) for stride in STRIDES)


class LoadGovernor:
    """Observes how long steps take and says at which level the next one is to run.

    It gets worse by one level when `shedding.overrun_share` of the last `shedding.window_steps` ran
    over. It gets better by one level only after `shedding.clean_steps` steps in time, one after the
    other, and `TRIAL_STEPS` more that were run as at the better level and fitted there. A step of
    such a trial that does not fit ends the trial, not the level, and the next trial comes later: a
    load that stays is met at one level.

    It has no clock: durations are told. One thread observes; others may read.
    """

    def __init__(self, settings: Settings, takes_any_size: bool) -> None:
        self._settings = settings
        self._takes_any_size = takes_any_size
        self._patience = 1
        self._level = 0
        self._seconds: deque[float] = deque()
        self._steps_here = self._since_trial = self._trial_steps = 0
        self._came_by_trial = False

    @property
    def level(self) -> int:
        """0 when nothing is held back, `worst` when everything is."""
        return min(self._level, self.worst) if self._settings.load_shedding.enabled else 0

    @property
    def worst(self) -> int:
        """The highest level there is."""
        return len(self._levels) - 1

    @property
    def degradation(self) -> Level:
        """What `level` holds back, apart from trials."""
        return self._levels[self.level]

    @property
    def next_step(self) -> Level:
        """How the next step is to be run."""
        return self._levels[self._level_of_next_step]

    @property
    def allowance_s(self) -> float:
        """Seconds that a step may take while nothing is held back."""
        return self._settings.load_shedding.budget / self._settings.stream.rate_hz

    @property
    def overruns(self) -> int:
        """How many of the last `shedding.window_steps` took longer than they may at the present
        level.
        """
        return sum(
            seconds > self._allowance_s(self.level)
            for seconds in list(self._seconds)[-self._settings.load_shedding.window_steps :]
        )

    @property
    def runs_over(self) -> bool:
        """Whether steps are too slow as things are; lasts only where nothing more can be held back."""
        shedding = self._settings.load_shedding
        return self.overruns >= max(
            ALONE, math.ceil(shedding.overrun_share * shedding.window_steps)
        )

    def observe(self, seconds: float) -> bool:
        """Take in how long (s) a step took that was run as `next_step` said; True when the level
        changed by it.
        """
        shedding = self._settings.load_shedding
        if self._level != self.level:
            # A setting was changed since: there are fewer levels now, or none.
            self._begin(self.level)
        if not shedding.enabled:
            return False
        self._steps_here += 1
        if self._trial_steps:
            return self._observe_trial(seconds)
        self._seconds = deque(
            self._seconds, maxlen=max(shedding.window_steps, shedding.clean_steps)
        )
        self._seconds.append(seconds)
        self._since_trial += 1
        if self.runs_over and self.level < self.worst:
            self._get_worse()
            return True
        if self._is_trial_due:
            self._trial_steps = TRIAL_STEPS
        return False

    def _get_worse(self) -> None:
        if (
            self._came_by_trial
            and self._steps_here < MOST_PATIENCE * self._settings.load_shedding.clean_steps
        ):
            # What fitted in its trial did not last, and the trial had made us less patient.
            self._be_patient(4)
        self._begin(self.level + 1)
        logger.warning(
            "steps take longer than %.0f ms; now %s (level %d of %d)",
            1e3 * self.allowance_s,
            self.degradation,
            self.level,
            self.worst,
        )

    def _observe_trial(self, seconds: float) -> bool:
        better = self.level - 1
        self._trial_steps -= 1
        if seconds > TRIAL_MARGIN * self._allowance_s(better):
            self._be_patient(2)
            self._trial_steps = self._since_trial = 0
            return False
        if self._trial_steps:
            return False
        self._begin(better)
        self._came_by_trial = True
        self._patience = max(1, self._patience // 2)
        logger.info(
            "steps fit into their time at a better level; now %s (level %d of %d)",
            self.degradation,
            better,
            self.worst,
        )
        return True

    @property
    def _levels(self) -> tuple[Level, ...]:
        return levels(self._settings, self._takes_any_size)

    @property
    def _level_of_next_step(self) -> int:
        return self.level - 1 if self.level and self._trial_steps else self.level

    def _allowance_s(self, level: int) -> float:
        return self.allowance_s * self._levels[level].stride

    @property
    def _is_trial_due(self) -> bool:
        clean_steps = self._settings.load_shedding.clean_steps
        if (
            not self.level
            or min(len(self._seconds), self._since_trial // self._patience) < clean_steps
        ):
            return False
        # Holding less back makes no step shorter: what would be too long at the better level as it
        # is need not be tried there.
        better_s = TRIAL_MARGIN * self._allowance_s(self.level - 1)
        return max(list(self._seconds)[-clean_steps:]) <= min(
            self._allowance_s(self.level), better_s
        )

    def _be_patient(self, times: int) -> None:
        self._patience = min(times * self._patience, MOST_PATIENCE)

    def _begin(self, level: int) -> None:
        """Judge steps at `level` from now on, and only by what they take there."""
        self._level = level
        self._seconds = deque()
        self._steps_here = self._since_trial = self._trial_steps = 0
        self._came_by_trial = False
