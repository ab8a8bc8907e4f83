"""Runs the lives of a day, kills the node at the end of each, and counts."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endurance.far_side import far_side
from endurance.life import LifeRun
from endurance.node_process import RESPONSE_LOST, NodeProcess
from endurance.robot import NAMESPACE, Robot
from endurance.scenario import Life
from endurance.setup import Setup


@dataclass
class Day:
    """A day under way.

    Attributes:
        setup: what it is made of.
        robot: everything around the node.
        hours: the report of each life so far.
        within: samples of the process over time, by life.
    """

    setup: Setup
    robot: Robot
    hours: list[dict[str, Any]] = field(default_factory=list)
    within: list[list[dict[str, float]]] = field(default_factory=list)

    def live(self, number: int, life: Life) -> None:
        """Run one life of the node, kill it, and look for what it had stored."""
        began, began_s = time.monotonic(), self.robot.elapsed_s
        self.robot.faults.clear()
        counts_before = Counter(self.robot.users.counts)
        users = self.robot.users
        users.unanswered.clear()
        users.wrong.clear()
        self.robot.gone.clear()
        node = NodeProcess(NAMESPACE, self.setup.folder / "node.log", self.setup.parameters())
        run = LifeRun(self.setup, self.robot, node)
        try:
            run.wait_active()
            ready_s = time.monotonic() - began
            with far_side(self.setup, self.robot, life.far, number) as far:
                for phase in life.phases:
                    run.run(phase)
            self.robot.wait(
                lambda: self.robot.value("memory", "backlog (steps)") == "0", "an empty backlog"
            )
            sample = node.sample()
            before_kill = self._statuses()
            # A tick is under way, and requests wait.
            self.robot.second()
        finally:
            node.kill()
        self.robot.on_spinner(users.killed)
        users.is_open = False
        time.sleep(0.5)  # for the messages that are on their way from a process that is gone
        loss = self.robot.ledger.check(self.setup.memory, self.setup.folder / "copy.db")
        unanswered = [each.what for each in users.unanswered if each.is_lost(self.robot.gone)]
        steps, step_ms = self.robot.ledger.take_hour()
        self.within.append(run.samples[run.configured_at :])
        self.hours.append(
            {
                "life": number,
                "phases": [f"{phase.what}: {phase.seconds} s" for phase in life.phases],
                "simulated_s": self.robot.elapsed_s - began_s,
                "real_s": round(time.monotonic() - began, 1),
                "start_to_active_s": round(ready_s, 1),
                "steps": steps,
                "late_steps": run.late,
                "step_p50_ms": _percentile(step_ms, 50),
                "step_p95_ms": _percentile(step_ms, 95),
                "frames_dropped_wrongly": len(run.dropped),
                "frames_lost_in_transport": run.lost_in_transport,
                "requests": dict(users.counts - counts_before),
                "requests_lost": len(unanswered),
                "requests_reached_nobody": len(users.unanswered) - len(unanswered),
                "parameters_wrong": len(users.wrong),
                "responses_undeliverable": node.log().count(RESPONSE_LOST),
                "tracebacks": node.log().count("Traceback (most recent call last)"),
                "records_expected": loss.expected,
                "records_lost": len(loss.lost),
                "file_sound": loss.sound,
                "records": loss.records,
                "sessions": loss.sessions,
                "file_mb": _megabytes(self.setup.memory),
                "rss_mb": sample.rss_mb,
                "threads": sample.threads,
                "descriptors": sample.descriptors,
                "age_s": sample.age_s,
                "faults": dict(self.robot.faults),
                "before_kill": before_kill,
                "far": far,
                "surprises": run.surprises,
                "lost": [
                    *unanswered[:20],
                    *users.wrong[:20],
                    *run.dropped[:20],
                    *loss.lost[:20],
                ],
            }
        )

    def _statuses(self) -> dict[str, str]:
        keys = {
            "memory": ("stored late (steps)", "lost (steps)", "rows"),
            "model": ("steps", "degraded (level)"),
            "session": ("sessions since activation",),
        } | {
            f"camera {name}": ("frames received", "frames dropped", "frames lost in transport")
            for name in ("front", "rear", "far")
        }
        return {
            f"{status}: {key}": self.robot.value(status, key)
            for status, names in keys.items()
            for key in names
        }


def _percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return round(ordered[int(len(ordered) * percent / 100.0)], 1) if ordered else 0.0


def _megabytes(path: Path) -> float:
    files = (path, path.with_name(path.name + "-wal"))
    return round(sum(file.stat().st_size for file in files if file.exists()) / 1e6, 2)
