"""One life of the node: its phases, and the checks at every tick."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from endurance import scenario
from endurance.cameras import Camera
from endurance.node_process import NodeProcess
from endurance.robot import FOUND_S, Robot
from endurance.scenario import TICK_S, Phase
from endurance.setup import Setup

LATE_S = 1.0
"""A step that is not published so many seconds (real time) after its tick is late."""
GIVEN_UP_S = 1.5
"""After so many seconds the clock goes on without the step."""
OVERDUE_TICKS = 3
"""At so many ticks in a row no picture of a camera was processed, although it published some."""
STALL_S = 20.0
"""A picture that is not processed so many seconds (real time) after its last tick is lost."""
MARGIN_S = 2
"""A picture may need so many simulated seconds to arrive."""
LINK_S = 1.0
"""How long a request over the slow link may be under way."""
LAPS = 4
"""How often a recording plays that loops, if there is time."""


@dataclass
class LifeRun:
    """The phases of one life.

    Attributes:
        setup: what the run is made of.
        robot: everything around the node.
        node: the process.
        late: number of late steps.
        lost_in_transport: how often a camera published and nothing of it was processed at three
            ticks; pictures that did not arrive, if they are not in `dropped`.
        dropped: pictures that arrived, should have been processed, and were not; described.
        surprises: what else went another way than expected.
        configured_at: number of samples before the node was configured last.
        samples: age (s) and resident memory (MB) of the process at every tick.
    """

    setup: Setup
    robot: Robot
    node: NodeProcess
    late: int = 0
    lost_in_transport: int = 0
    configured_at: int = 0
    dropped: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)
    _overdue: dict[str, int] = field(default_factory=dict)
    _arrived: dict[str, deque[int]] = field(default_factory=dict)
    _is_watching: bool = False

    def run(self, phase: Phase) -> None:
        """Run a phase to its end."""
        self.robot.users.phase = phase.what
        half = phase.seconds // 2
        if phase.what == scenario.LOOP:
            laps = min(LAPS, phase.seconds // (2 * TICK_S))
            lap_s = phase.seconds // laps // TICK_S * TICK_S
            for lap in range(laps):
                self._advance(lap_s)
                if lap < laps - 1:
                    self.robot.jump_back(lap_s)
                    self._forget()
        elif phase.what == scenario.DEACTIVATE:
            self._advance(half)
            self._cycle(("deactivate",), ("activate",), phase.seconds - half)
        elif phase.what == scenario.CLEANUP:
            self._advance(half)
            # With `autostart` the node activates itself after each configure.
            transitions = ("deactivate", "cleanup"), ("configure",)
            self._cycle(*transitions, phase.seconds - half)
        elif phase.what == scenario.FULL_DISK:
            with self._full_disk():
                self._advance(half)
            self._advance(phase.seconds - half)
        elif phase.what == scenario.NO_ODOMETRY:
            self.robot.odometry_on = False
            self._advance(half)
            self.robot.odometry_on = True
            self._advance(phase.seconds - half)
        elif phase.what == scenario.NO_CAMERAS:
            for camera in self.robot.cameras:
                camera.switch(False)
            surprise, self.robot.surprise = self.robot.surprise, 0.0
            self._advance(half)
            self.robot.surprise = surprise
            for camera in self.robot.cameras:
                camera.switch(True)
            self._advance(phase.seconds - half)
        elif phase.what == scenario.PAUSE:
            self._advance(half)
            time.sleep(3 * self.setup.request_period_s)  # requests come while time stands still
            self._advance(phase.seconds - half)
        else:
            self._advance(phase.seconds)

    def _advance(self, seconds: int) -> None:
        """Let time pass, at most `factor` times as fast as real, and no faster than the node."""
        due = time.monotonic()
        for _ in range(seconds):
            if self.node.has_ended:
                raise RuntimeError(f"the node ended by itself; its log: {self.node.log()[-3000:]}")
            self.robot.second()
            if self.robot.elapsed_s % TICK_S == 0:
                self._await_step()
                sample = self.node.sample()
                self.samples.append({"age_s": sample.age_s, "rss_mb": sample.rss_mb})
            due += 1.0 / self.setup.factor
            left = due - time.monotonic()
            if left > 0:
                time.sleep(left)
            else:
                due = time.monotonic()

    def _await_step(self) -> None:
        """Wait for the step of the last tick.

        The node ticks once in every `TICK_S`, at an offset that is not known. A picture that was
        published before the last ten seconds, and was the newest then, has been taken by now.
        """
        if not self._is_watching:
            return
        began = time.monotonic()
        latest_ns = (self.robot.now_s - TICK_S - MARGIN_S) * 1_000_000_000
        wanted = {}
        for camera in self.robot.cameras:
            stamps = [stamp for stamp in camera.good if stamp <= latest_ns]
            if stamps:
                wanted[camera.name] = stamps[-1]
                first_ns = latest_ns - OVERDUE_TICKS * TICK_S * 1_000_000_000
                camera.good = [stamp for stamp in camera.good if stamp >= first_ns]
        processed = self.robot.ledger.processed

        def missing() -> list[str]:
            return [name for name, stamp in wanted.items() if processed.get(name, -1) < stamp]

        while missing() and time.monotonic() - began < GIVEN_UP_S:
            time.sleep(0.002)
        self.late += time.monotonic() - began > LATE_S
        for name in missing():
            self._overdue[name] = self._overdue.get(name, 0) + 1
        for name in wanted.keys() - set(missing()):
            self._overdue.pop(name, None)
        for camera in self.robot.cameras:
            self._check_arrived(camera)
            if self._overdue.get(camera.name, 0) == OVERDUE_TICKS:
                self._overdue.pop(camera.name)
                self.lost_in_transport += 1

    def _check_arrived(self, camera: Camera) -> None:
        """A picture that had arrived two ticks ago, or a newer one, must be processed by now."""
        newest = self.robot.newest_received_ns(camera.name)
        # An earlier lap had the same stamps, so they do not tell what arrived in this one.
        is_known = newest in camera.good and newest > self.robot.repeated_until_ns
        arrived = self._arrived.setdefault(camera.name, deque(maxlen=OVERDUE_TICKS))
        arrived.append(newest if is_known else -1)
        due = arrived[0]
        if len(arrived) < OVERDUE_TICKS or due not in camera.good:
            return
        if not self._comes_late(camera.name, due):
            newest = self.robot.ledger.processed.get(camera.name, -1)
            self.dropped.append(
                f"{camera.name}: picture {due} arrived, and neither it nor a newer one was"
                f" processed at two ticks (newest processed: {newest})"
            )
            arrived.clear()

    def _comes_late(self, camera: str, stamp_ns: int) -> bool:
        """Let the clock stand still until the picture, or a newer one, is processed.

        A node that is only slow has the tick still before it. One that has lost the picture has
        nothing to do.
        """
        deadline = time.monotonic() + STALL_S
        while self.robot.ledger.processed.get(camera, -1) < stamp_ns:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _forget(self) -> None:
        self._overdue.clear()
        self._arrived.clear()

    def _watch_from_now(self, watching: bool) -> None:
        self._is_watching = watching
        self._forget()
        for camera in self.robot.cameras:
            camera.forget()

    def _cycle(self, down: tuple[str, ...], up: tuple[str, ...], seconds: int) -> None:
        self._watch_from_now(False)
        began = time.monotonic()
        for label in down:
            self._transition(label)
        self._advance(TICK_S)
        for label in up:
            self._transition(label)
        self.wait_active()
        if "cleanup" in down:
            # A client behind a slow link knows only later that the services have gone.
            self.robot.gone.append((began - LINK_S, time.monotonic()))
            self.configured_at = len(self.samples)
        self._advance(max(TICK_S, seconds - TICK_S))

    def _transition(self, label: str) -> None:
        if not self.robot.transition(label):
            self.surprises.append(f"the transition {label} failed")

    def wait_active(self) -> None:
        """Wait until the node is active and its services are found; then requests are sent."""
        self.robot.wait_for_state("active")
        time.sleep(FOUND_S)
        self.robot.users.is_open = True
        self._watch_from_now(True)

    @contextmanager
    def _full_disk(self) -> Iterator[None]:
        filler = self.setup.memory.with_name("filler")
        if self.setup.isolated:
            with filler.open("wb", buffering=0) as opened, suppress(OSError):
                while opened.write(bytes(1 << 16)):
                    pass
        else:
            self.node.limit_files(max(4096, self.setup.memory.stat().st_size // 2))
        try:
            yield
        finally:
            if self.setup.isolated:
                filler.unlink()
            else:
                self.node.limit_files(None)
        self.robot.wait(
            lambda: self.robot.value("memory", "backlog (steps)") == "0", "an empty backlog"
        )
