"""Load shedding: limits the cost of a step while steps take too long."""

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
"""First the longest utterance is limited to these shares of its length.

A shorter text loses less than a skipped picture.
"""
PICTURE_SHARES = (0.5, 0.25)
"""Then pictures get these shares of their pixel budget."""
STRIDES = (2, 4)
"""Last, only every Nth tick is processed."""
TRIAL_STEPS = 4
"""Steps in a row that must fit at the better level before the level changes."""
TRIAL_MARGIN = 0.9
"""Share of the allowed time that a trial step may take, so the better level has some reserve."""
MAX_TRIAL_DELAY = 8
"""After failed trials the next trial waits longer, up to this many times `clean_steps`."""
MIN_OVERRUNS = 2
"""Fewer slow steps than this in a window never change the level: one long answer is no overload."""


@dataclass(frozen=True)
class Level:
    """The limits at one level of load shedding.

    Attributes:
        limits: limits of every step.
        stride: every Nth tick is processed, N = `stride`.
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
                f"only every {self.stride}{'nd' if self.stride == 2 else 'th'} tick is processed"
            )
        return ", ".join(degradation) or "no limits"


def levels(settings: Settings, takes_any_size: bool) -> tuple[Level, ...]:
    """All levels of load shedding, from no limits to the strictest.

    Args:
        settings: the settings; `decision` and `load_shedding` are read.
        takes_any_size: False for a model with one fixed picture size, which has no levels with
            smaller pictures.
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
    """Chooses the level of load shedding for the next step from the durations of past steps.

    The level rises by one if a share of `load_shedding.overrun_share` of the last
    `load_shedding.window_steps` steps took too long. It falls by one after
    `load_shedding.clean_steps` steps in a row that were in time, followed by a trial: `TRIAL_STEPS`
    steps that run with the limits of the better level and are in time there. A trial step that is
    too slow ends the trial, the level stays, and the next trial comes later. So a constant load
    keeps one level.

    The governor reads no clock; the caller passes durations. One thread calls `observe`; other
    threads may read.
    """

    def __init__(self, settings: Settings, takes_any_size: bool) -> None:
        self._settings = settings
        self._takes_any_size = takes_any_size
        self._trial_delay = 1
        self._level = 0
        self._seconds: deque[float] = deque()
        self._steps_at_level = self._since_trial = self._trial_steps = 0
        self._reached_by_trial = False

    @property
    def level(self) -> int:
        """The present level: 0 without limits, up to `worst`."""
        return min(self._level, self.worst) if self._settings.load_shedding.enabled else 0

    @property
    def worst(self) -> int:
        """The highest level."""
        return len(self._levels) - 1

    @property
    def degradation(self) -> Level:
        """The limits of `level`, without regard to trials."""
        return self._levels[self.level]

    @property
    def next_step(self) -> Level:
        """The limits of the next step, which may be a trial step."""
        return self._levels[self._level_of_next_step]

    @property
    def allowance_s(self) -> float:
        """Seconds that a step may take at level 0."""
        return self._settings.load_shedding.budget / self._settings.stream.tick_rate_hz

    @property
    def overruns(self) -> int:
        """How many of the last `load_shedding.window_steps` steps took too long."""
        return sum(
            seconds > self._allowance_s(self.level)
            for seconds in list(self._seconds)[-self._settings.load_shedding.window_steps :]
        )

    @property
    def runs_over(self) -> bool:
        """Whether steps are too slow at the present level; stays True only at the worst level."""
        shedding = self._settings.load_shedding
        return self.overruns >= max(
            MIN_OVERRUNS, math.ceil(shedding.overrun_share * shedding.window_steps)
        )

    def observe(self, seconds: float) -> bool:
        """Take in the duration (s) of a step that ran with the limits of `next_step`.

        Returns:
            Whether the level changed.
        """
        shedding = self._settings.load_shedding
        if self._level != self.level:
            # A setting has changed: there are fewer levels now, or load shedding is off.
            self._change_level(self.level)
        if not shedding.enabled:
            return False
        self._steps_at_level += 1
        if self._trial_steps:
            return self._observe_trial(seconds)
        self._seconds = deque(
            self._seconds, maxlen=max(shedding.window_steps, shedding.clean_steps)
        )
        self._seconds.append(seconds)
        self._since_trial += 1
        if self.runs_over and self.level < self.worst:
            self._raise_level()
            return True
        if self._is_trial_due:
            self._trial_steps = TRIAL_STEPS
        return False

    def _raise_level(self) -> None:
        if (
            self._reached_by_trial
            and self._steps_at_level < MAX_TRIAL_DELAY * self._settings.load_shedding.clean_steps
        ):
            # The steps were fast enough in the trial, but not for long. The trial halved the delay,
            # so this doubles the delay before it.
            self._delay_trials(4)
        self._change_level(self.level + 1)
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
            self._delay_trials(2)
            self._trial_steps = self._since_trial = 0
            return False
        if self._trial_steps:
            return False
        self._change_level(better)
        self._reached_by_trial = True
        self._trial_delay = max(1, self._trial_delay // 2)
        logger.info(
            "steps are fast enough for a better level; now %s (level %d of %d)",
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
            or min(len(self._seconds), self._since_trial // self._trial_delay) < clean_steps
        ):
            return False
        # Fewer limits make no step shorter. A step that already takes too long for the better level
        # needs no trial.
        better_s = TRIAL_MARGIN * self._allowance_s(self.level - 1)
        return max(list(self._seconds)[-clean_steps:]) <= min(
            self._allowance_s(self.level), better_s
        )

    def _delay_trials(self, factor: int) -> None:
        self._trial_delay = min(factor * self._trial_delay, MAX_TRIAL_DELAY)

    def _change_level(self, level: int) -> None:
        """Change to `level` and forget the durations of steps at other levels."""
        self._level = level
        self._seconds = deque()
        self._steps_at_level = self._since_trial = self._trial_steps = 0
        self._reached_by_trial = False
