"""Events that take half a minute or several: the same motion, done slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_vlm_lab.simulation.script.script import Event

SLOW_SHARE = 0.5
"""So many of the events are slow, where any may be."""


class SlowMotion:
    """Stretches some events of one stream; draws from a generator of its own, so that what happens
    stays the same.
    """

    def __init__(self, seed: int, longest_s: float) -> None:
        self._rng = np.random.default_rng([seed, 0x510])
        self._longest_s = longest_s

    def done(self, event: Event) -> Event:
        """`event`, whose times count from 0, as it is done: as it is, or longer, up to the longest
        length. What happens at once stays so.
        """
        if not self._longest_s > event.t_end > 0 or self._rng.random() >= SLOW_SHARE:
            return event
        # Logarithmic, so that every order of length comes as often as the others.
        factor = float((self._longest_s / event.t_end) ** self._rng.random())
        return replace(
            event,
            t_end=event.t_end * factor,
            t_approached=event.t_approached * factor,
            t_contact=event.t_contact * factor,
        )
