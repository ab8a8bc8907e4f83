"""The demo's course: bring the node up, play the camera, listen, ask, draw, report."""

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
from stream_vlm_lab.demo.listener import FRAMES_DROPPED, RECORDED_HZ, Audience
from stream_vlm_lab.demo.processes import DemoError, Stage, installed_program
from stream_vlm_lab.demo.questions import Answered, ask_about_footage, ask_about_world
from stream_vlm_lab.evaluation.plots.annotated_clip import Annotations, write_clip
from stream_vlm_lab.evaluation.plots.timeline import Timeline, draw_timeline
from stream_vlm_lab.evaluation.scoring.matching import score_events
from stream_vlm_lab.simulation.labels.ground_truth import RecallQuestion
from stream_vlm_ros.common.conversions import nanoseconds

MEMORY_FILE, TIMELINE, CLIP, REPORT = "memory.db", "timeline.png", "clip.mp4", "report.json"
BRING_UP_S = 120.0
"""For a cold start on a slow disk; a warm one takes a few seconds."""
CATCH_UP_S = 4.0
"""How long the node may need for the last picture after the camera has stopped."""


@dataclass
class Show:
    """What is played and what is known about it.

    Attributes:
        spec: the source, as `camera_source` takes it.
        folder: where everything is left; old results in it are replaced.
        node_command: program that is the node; the installed one when empty.
        truth: what really happens, or None where nobody knows.
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
        """Play it to the end and return the report that was written.

        Raises:
            DemoError: a part broke; the message shows the end of its log.
            SourceError: the source cannot be opened.
        """
        source = open_source(self.spec, seconds=self.seconds)
        self._clear()
        topics = self._topics(source)
        # Signals stay Python's: Ctrl-C must reach the stage, which ends the processes.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        try:
            with Stage(self.folder) as stage, _audience(topics, self.transport, stage) as audience:
                began = time.monotonic()
                stage.start("node", self._node_program(topics))
                # The camera loads while the node does, and plays once both the node and the
                # audience listen.
                stage.start("camera_source", self._camera_program(source))
                audience.bring_up(BRING_UP_S)
                print(
                    f"node active after {time.monotonic() - began:.1f} s; playing {self.spec} on"
                    f" {', '.join(topics.values())}\n",
                    flush=True,
                )
                first_ns = self._play(stage, audience, source)
                answers = self._ask(audience, first_ns)
                # What is counted at the very end is reported once a second.
                audience.diagnosed.clear()
                audience.spin_until(lambda: bool(audience.diagnosed), 3.0)
                if stage.end("node") != 0:
                    raise stage.failure("node", "did not leave in good order")
                report = self._report(audience, answers, first_ns)
            self._draw(audience, source, first_ns, report)
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
                f"{self.folder}: cannot hold the demo's results: {error.strerror}; choose another"
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
        program += ["--listeners", "2", "--wait", str(BRING_UP_S)]
        if len(source.cameras) == 1:
            program += ["--topic", "/camera/image_raw"]
        if self.seconds is not None:
            program += ["--seconds", str(self.seconds)]
        return program

    def _play(self, stage: Stage, audience: Audience, source: Source) -> int:
        """Listen until the source has been played to its end; return the stamp (ns) of its first
        picture.
        """
        if not audience.spin_until(
            lambda: (
                bool(stage.output("camera_source").strip()) or not stage.running("camera_source")
            ),
            BRING_UP_S,
        ):
            raise stage.failure("camera_source", "published no picture")
        first_ns = int(json.loads(stage.output("camera_source").splitlines()[0])["first_stamp_ns"])
        several = len(source.cameras) > 1
        audience.on_utterance = lambda said: _print_utterance(said, first_ns, several)
        audience.on_event = lambda event: _print_event(event, first_ns)
        for earlier in audience.utterances:
            audience.on_utterance(earlier)
        limit_s = (source.duration_s or 600.0) * 1.5 + 60.0
        if not audience.spin_until(lambda: not stage.running("camera_source"), limit_s):
            raise stage.failure("camera_source", f"has not ended after {limit_s:.0f} s")
        last_ns = int(json.loads(stage.output("camera_source").splitlines()[-1])["last_stamp_ns"])
        audience.spin_until(lambda: audience.newest_state_ns() >= last_ns, CATCH_UP_S)
        if not audience.states:
            raise stage.failure("node", "looked at no picture")
        return first_ns

    def _ask(self, audience: Audience, first_ns: int) -> list[Answered]:
        answers = (
            ask_about_footage(audience.recall, first_ns)
            if self.truth is None
            else ask_about_world(self.questions, audience.recall, first_ns)
        )
        print()
        for answered in answers:
            verdict = "" if answered.right is None else "   right" if answered.right else "   WRONG"
            print(f"  ? {answered.question}\n    {answered.answer}{verdict}")
        return answers

    def _report(
        self, audience: Audience, answers: Sequence[Answered], first_ns: int
    ) -> dict[str, Any]:
        events = audience.timed_events(first_ns)
        score = None if self.truth is None else score_events(events, self.truth)
        step_ms = np.array([state.step_ms for state in audience.states])
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
            "frames_dropped": audience.diagnosed_number(FRAMES_DROPPED),
            "rows": rows,
            "recall": [answered.as_report() for answered in answers],
            "source": self.spec,
            "steps": len(step_ms),
            "utterances": len(audience.utterances),
            "events": len(events),
            "class_agnostic_f1": round(score.class_agnostic.f1, 3) if score else None,
        }

    def _draw(
        self, audience: Audience, source: Source, first_ns: int, report: dict[str, Any]
    ) -> None:
        events, utterances, states = (
            audience.timed_events(first_ns),
            audience.timed_utterances(first_ns),
            audience.timed_states(first_ns),
        )
        camera = source.cameras[0]
        pictures = audience.pictures(camera, first_ns)
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
def _audience(topics: dict[str, str], transport: str, stage: Stage) -> Iterator[Audience]:
    audience = Audience(topics, transport, stage)
    try:
        yield audience
    finally:
        audience.close()


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
