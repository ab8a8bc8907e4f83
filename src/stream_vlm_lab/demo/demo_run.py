"""One run of the demo: start the node, play the camera, listen, ask, draw, report."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions
from stream_vlm_ros.msg import EventGrounding, Utterance

from stream_vlm.config.memory_settings import MemorySettings
from stream_vlm.memory.memory import Memory
from stream_vlm.run_records import TimedEvent, seconds_of_stream
from stream_vlm.sources import Source, open_source
from stream_vlm_lab.demo.listener import FRAMES_DROPPED, RECORDED_HZ, Listener
from stream_vlm_lab.demo.processes import DemoError, DemoProcesses, installed_program
from stream_vlm_lab.demo.questions import RecallAnswer, ask_about_footage, ask_about_simulation
from stream_vlm_lab.evaluation.plots.annotated_clip import Annotations, write_clip
from stream_vlm_lab.evaluation.plots.timeline import Timeline, draw_timeline
from stream_vlm_lab.evaluation.scoring.matching import score_events
from stream_vlm_lab.simulation.labels.ground_truth import RecallQuestion
from stream_vlm_ros.common.stamps import nanoseconds

MEMORY_FILE, TIMELINE, CLIP, REPORT = "memory.db", "timeline.png", "clip.mp4", "report.json"
STARTUP_TIMEOUT_S = 120.0
"""Timeout for the start in seconds; long enough for a slow disk. It usually takes a few seconds."""
LAST_STEP_TIMEOUT_S = 4.0
"""Longest time in seconds that the node may need for the last picture."""


@dataclass
class DemoRun:
    """One run of the demo.

    Attributes:
        spec: the source, as `camera_source` takes it.
        folder: folder for the results; older results in it are replaced.
        seconds: length to play; None for all.
        transport: "raw" or "compressed".
        model_directory: directory of a checkpoint; empty for the shipped model.
        node_command: program to use as the node; empty for the installed one.
        truth: the true events; None if they are unknown.
        questions: questions about the true events.
    """

    spec: str
    folder: Path
    seconds: float | None = None
    transport: str = "raw"
    model_directory: str = ""
    node_command: Sequence[str] = ()
    truth: Sequence[TimedEvent] | None = None
    questions: Sequence[RecallQuestion] = ()

    def run(self) -> dict[str, Any]:
        """Run the demo to the end; returns the report, which is also written to the folder.

        Raises:
            DemoError: a part failed; the message has the end of its log.
            SourceError: the source cannot be opened.
        """
        source = open_source(self.spec, seconds=self.seconds)
        self._clear()
        topics = self._topics(source)
        # ROS must not handle signals: on Ctrl-C, `DemoProcesses` ends the processes.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        try:
            with (
                DemoProcesses(self.folder) as processes,
                _listener(topics, self.transport, processes) as listener,
            ):
                began = time.monotonic()
                processes.start("node", self._node_program(topics))
                # The camera starts together with the node. It plays as soon as the node and the
                # listener have subscribed.
                processes.start("camera_source", self._camera_program(source))
                listener.bring_up(STARTUP_TIMEOUT_S)
                print(
                    f"node active after {time.monotonic() - began:.1f} s; playing {self.spec} on"
                    f" {', '.join(topics.values())}\n",
                    flush=True,
                )
                first_ns = self._play(processes, listener, source)
                answers = self._ask(listener, first_ns)
                # The node publishes diagnostics once a second; wait for the final numbers.
                listener.diagnostics.clear()
                listener.spin_until(lambda: bool(listener.diagnostics), 3.0)
                if processes.end("node") != 0:
                    raise processes.failure("node", "did not shut down cleanly")
                report = self._report(listener, answers, first_ns)
            self._draw(listener, source, first_ns, report)
        finally:
            rclpy.try_shutdown()
        (self.folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        return report

    def _clear(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (
                MEMORY_FILE,
                f"{MEMORY_FILE}-wal",
                f"{MEMORY_FILE}-shm",
                TIMELINE,
                CLIP,
                REPORT,
            ):
                (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise DemoError(
                f"{self.folder}: the results cannot be written: {error.strerror}; choose another"
                " folder with --out"
            ) from error

    def _topics(self, source: Source) -> dict[str, str]:
        suffix = "/compressed" if self.transport == "compressed" else ""
        if len(source.cameras) == 1:
            return {source.cameras[0]: f"/camera/image_raw{suffix}"}
        return {camera: f"/{camera}/image_raw{suffix}" for camera in source.cameras}

    def _node_program(self, topics: dict[str, str]) -> list[str]:
        parameters = {
            "cameras": json.dumps(sorted(topics)),
            "memory.path": str((self.folder / MEMORY_FILE).absolute()),
        }
        for camera, topic in topics.items():
            parameters |= {
                f"camera.{camera}.topic": topic,
                f"camera.{camera}.transport": self.transport,
            }
        if self.model_directory:
            parameters["model.directory"] = str(Path(self.model_directory).absolute())
        command = list(self.node_command) or [installed_program("stream_vlm_node")]
        return [
            *command,
            "--ros-args",
            *(part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")),
        ]

    def _camera_program(self, source: Source) -> list[str]:
        program = [installed_program("camera_source"), self.spec, "--transport", self.transport]
        program += ["--listeners", "2", "--wait", str(STARTUP_TIMEOUT_S)]
        if len(source.cameras) == 1:
            program += ["--topic", "/camera/image_raw"]
        if self.seconds is not None:
            program += ["--seconds", str(self.seconds)]
        return program

    def _play(self, processes: DemoProcesses, listener: Listener, source: Source) -> int:
        """Listen until the source has been played; returns the stamp (ns) of its first picture."""
        if not listener.spin_until(
            lambda: (
                bool(processes.output("camera_source").strip())
                or not processes.running("camera_source")
            ),
            STARTUP_TIMEOUT_S,
        ):
            raise processes.failure("camera_source", "published no picture")
        first_ns = int(
            json.loads(processes.output("camera_source").splitlines()[0])["first_stamp_ns"]
        )
        several = len(source.cameras) > 1
        listener.on_utterance = lambda said: _print_utterance(said, first_ns, several)
        listener.on_event = lambda event: _print_event(event, first_ns)
        for earlier in listener.utterances:
            listener.on_utterance(earlier)
        limit_s = (source.duration_s or 600.0) * 1.5 + 60.0
        if not listener.spin_until(lambda: not processes.running("camera_source"), limit_s):
            raise processes.failure("camera_source", f"has not ended after {limit_s:.0f} s")
        last_ns = int(
            json.loads(processes.output("camera_source").splitlines()[-1])["last_stamp_ns"]
        )
        listener.spin_until(lambda: listener.newest_state_ns() >= last_ns, LAST_STEP_TIMEOUT_S)
        if not listener.states:
            raise processes.failure("node", "processed no picture")
        return first_ns

    def _ask(self, listener: Listener, first_ns: int) -> list[RecallAnswer]:
        answers = (
            ask_about_footage(listener.recall, first_ns)
            if self.truth is None
            else ask_about_simulation(self.questions, listener.recall, first_ns)
        )
        print()
        for answer in answers:
            verdict = "" if answer.right is None else "   correct" if answer.right else "   WRONG"
            print(f"  ? {answer.question}\n    {answer.answer}{verdict}")
        return answers

    def _report(
        self, listener: Listener, answers: Sequence[RecallAnswer], first_ns: int
    ) -> dict[str, Any]:
        events = listener.timed_events(first_ns)
        score = None if self.truth is None else score_events(events, self.truth)
        step_ms = np.array([state.step_ms for state in listener.states])
        with Memory.open(
            MemorySettings(path=str(self.folder / MEMORY_FILE)), read_only=True
        ) as memory:
            rows = memory.count()
        timing = score.labelled.timing_error_s if score else None
        return {
            "event_f1": round(score.labelled.f1, 3) if score else None,
            "timing_error_s": None if timing is None else round(timing, 3),
            "step_p50_ms": round(float(np.percentile(step_ms, 50)), 1),
            "step_p95_ms": round(float(np.percentile(step_ms, 95)), 1),
            "frames_dropped": listener.diagnostic_number(FRAMES_DROPPED),
            "rows": rows,
            "recall": [answer.as_report() for answer in answers],
            "source": self.spec,
            "steps": len(step_ms),
            "utterances": len(listener.utterances),
            "events": len(events),
            "class_agnostic_f1": round(score.class_agnostic.f1, 3) if score else None,
        }

    def _draw(
        self, listener: Listener, source: Source, first_ns: int, report: dict[str, Any]
    ) -> None:
        events, utterances, states = (
            listener.timed_events(first_ns),
            listener.timed_utterances(first_ns),
            listener.timed_states(first_ns),
        )
        camera = source.cameras[0]
        pictures = listener.pictures(camera, first_ns)
        duration_s = max([source.duration_s or 0.0, *(t for t, _ in pictures)])
        title = self.spec if self.truth is not None else Path(self.spec).name
        headline = (
            title if report["event_f1"] is None else f"{title}   event F1 {report['event_f1']:.2f}"
        )
        matching = None if self.truth is None else score_events(events, self.truth).labelled
        draw_timeline(
            Timeline(headline, events, utterances, states, self.truth, matching, duration_s),
            self.folder / TIMELINE,
        )
        own = [state for state in states if state.camera == camera]
        write_clip(
            self.folder / CLIP,
            pictures,
            Annotations(title, duration_s, utterances, own),
            RECORDED_HZ,
        )


@contextlib.contextmanager
def _listener(
    topics: dict[str, str], transport: str, processes: DemoProcesses
) -> Iterator[Listener]:
    listener = Listener(topics, transport, processes)
    try:
        yield listener
    finally:
        listener.close()


def _print_utterance(said: Utterance, first_ns: int, several: bool) -> None:
    t = seconds_of_stream(nanoseconds(said.header.stamp), first_ns)
    print(
        f"{t:7.1f} s  says   {f'{said.camera}: ' if several else ''}{said.text} "
        f" ({said.confidence:.2f})",
        flush=True,
    )


def _print_event(event: EventGrounding, first_ns: int) -> None:
    seen, start, end = (
        seconds_of_stream(nanoseconds(stamp), first_ns)
        for stamp in (event.header.stamp, event.start, event.end)
    )
    print(f"{seen:7.1f} s  event  {start:.1f} - {end:.1f} s  {event.label}", flush=True)
