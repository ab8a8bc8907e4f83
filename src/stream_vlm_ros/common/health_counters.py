"""Counters and times that /diagnostics shows."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LOG_PERIOD_S = 10.0
"""Shortest time between two log lines about the same kind of fault, in seconds."""
RATE_WINDOW = 60
"""A rate is the mean over this many arrivals."""
LATENCY_WINDOW = 200
"""Percentiles are taken over this many steps."""


class FaultLog:
    """Counts the faults of one part, keeps the last one, and logs without flooding the log.

    Each kind of fault is logged at most once per `LOG_PERIOD_S`. Sentences that differ only in
    numbers (stamps, sizes, ages) are of the same kind.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self.count = 0
        self.last = ""
        self.last_at = float("-inf")

    def report(self, sentence: str) -> None:
        """Count one fault; `sentence` says what is wrong and what to do."""
        now = time.monotonic()
        kind = re.sub(r"[0-9.]+", "#", sentence)
        with self._lock:
            self.count += 1
            self.last, self.last_at = sentence, now
            due = now - self._logged_at.get(kind, float("-inf")) >= LOG_PERIOD_S
            if due:
                self._logged_at = {
                    other: at for other, at in self._logged_at.items() if now - at < LOG_PERIOD_S
                } | {kind: now}
        if due:
            self._log(sentence)

    def recent(self, within_s: float) -> str:
        """The last fault if it is not older than `within_s` seconds, else an empty string."""
        return self.last if time.monotonic() - self.last_at <= within_s else ""


class CameraHealth:
    """Counts the messages of one camera and their faults."""

    def __init__(self, topic: str, log: Callable[[str], None]) -> None:
        self.topic = topic
        self.refused = FaultLog(log)
        self.incompatible_qos = ""
        """Why the last publisher with other QoS could not be connected, and what to do."""
        self.lost_in_transport = 0
        self._lost_at = float("-inf")
        self._lost_before = 0
        self.events_abandoned = 0
        """Events that were under way and never complete (`AbandonedEvent`)."""
        self.reports_unconfirmed = 0
        """Reports that were not spoken because a second look did not confirm them."""
        self.newest_stamp_ns: int | None = None
        self.subscribed_at = time.monotonic()
        self._arrivals: deque[float] = deque(maxlen=RATE_WINDOW)

    def count_arrival(self) -> None:
        """Count a message, whether it can be used or not."""
        self._arrivals.append(time.monotonic())

    def note_lost(self, total: int) -> None:
        """Note that the middleware has lost `total` messages since the present subscription."""
        if self._lost_before + total > self.lost_in_transport:
            self.lost_in_transport = self._lost_before + total
            self._lost_at = time.monotonic()

    def subscribed_again(self) -> None:
        """Note that a new subscription replaces the present one; counts go on."""
        self._lost_before = self.lost_in_transport
        self._lost_at = float("-inf")
        self.incompatible_qos = ""

    def lost_within(self, seconds: float) -> bool:
        """Whether a message was lost in the last `seconds`."""
        return time.monotonic() - self._lost_at <= seconds

    def silent_s(self) -> float:
        """Seconds since the last message, or since the subscription if none came."""
        return time.monotonic() - (self._arrivals[-1] if self._arrivals else self.subscribed_at)

    @property
    def has_arrivals(self) -> bool:
        """Whether any message arrived."""
        return bool(self._arrivals)

    def rate_hz(self) -> float:
        """Messages per second over the last arrivals; it falls towards 0 when they stop."""
        arrivals = list(self._arrivals)
        if len(arrivals) < 2:
            return 0.0
        between = (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1)
        return 1.0 / max(between, time.monotonic() - arrivals[-1], 1e-6)


@dataclass
class StepHealth:
    """How long steps take, and their faults."""

    faults: FaultLog
    steps: int = 0
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))

    def record(self, seconds: float) -> None:
        """Count a step that took `seconds`, decoding included."""
        self.steps += 1
        self._seconds.append(seconds)

    def forget_durations(self) -> None:
        """Take percentiles only over the steps that follow."""
        self._seconds = deque(maxlen=LATENCY_WINDOW)

    def percentile_ms(self, percent: float) -> float:
        """The time (ms) that `percent` of the recent steps did not exceed; 0 before any step."""
        return 1e3 * percentile(sorted(self._seconds), percent)


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted numbers; 0 if there are none."""
    if not ascending:
        return 0.0
    return ascending[min(len(ascending) - 1, int(len(ascending) * percent / 100.0))]
