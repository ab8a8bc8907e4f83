"""How well a model watches rooms it never saw: online, one pass, frame by frame, through the harness that the node runs.

    build/jazzy/run python benchmark/watching.py --streams 20

Prints a table and writes JSON: event F1 (what and when), timing, confusion of states, answers to questions, step times, and the F1 of two
baselines on the same streams: one that reports a person entering whenever the picture begins to change, and silence.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers

from stream_vlm.backbone import load_model
from stream_vlm.config import load_settings
from stream_vlm.evaluation.matching import score_events
from stream_vlm.evaluation.records import TimedEvent
from stream_vlm.harness import StreamingHarness
from stream_vlm.stream import NANOSECONDS, Frame, Query, State, Tick
from stream_vlm.training.train import HELD_OUT_SEED
from stream_vlm.world.labels import questions, tick_states
from stream_vlm.world.render import World

SECONDS = 60.0
TOLERANCES_S = (0.5, 1.0, 1.5, 3.0)
SIZES = ((320, 240), (384, 216))


class Tally:
    """Counts over all streams."""

    def __init__(self) -> None:
        self.truth: list[list[TimedEvent]] = []
        self.claims: list[list[TimedEvent]] = []
        self.motion: list[list[TimedEvent]] = []
        self.confusion: Counter[tuple[str, str]] = Counter()
        self.answers: list[tuple[str, str, str]] = []
        self.step_ms: list[float] = []

    def f1(self, claims: list[list[TimedEvent]], tolerance_s: float) -> dict[str, float | None]:
        """Labelled and class-agnostic F1 over all streams together, with the mean timing error of the labelled pairs."""
        scores = [score_events(claimed, truth, tolerance_s) for claimed, truth in zip(claims, self.truth, strict=True)]

        def pooled(kind: str) -> float:
            hits, wrong = (sum(getattr(getattr(score, kind), name) for score in scores) for name in ("tp", "fp"))
            missed = sum(getattr(score, kind).fn for score in scores)
            return 2 * hits / max(1, 2 * hits + wrong + missed)

        errors = [
            (score.labelled.timing_error_s, score.labelled.tp) for score in scores if score.labelled.timing_error_s is not None
        ]
        matched = sum(count for _, count in errors)
        colours = [score.colour_accuracy for score in scores if score.colour_accuracy is not None]
        return {
            "event_f1": pooled("labelled"),
            "any_event_f1": pooled("class_agnostic"),
            "timing_error_s": sum(error * count for error, count in errors) / matched if matched else None,
            "colour_accuracy": float(np.mean(colours)) if colours else None,
        }


def watch(harness: StreamingHarness, seed: int, tally: Tally, ask: bool) -> None:
    """Let the harness watch one stream; with `ask`, questions are put to it where the world has one."""
    world = World(seed, SECONDS, size=SIZES[seed % len(SIZES)])
    harness.open_session(f"world-{seed}-{'asked' if ask else 'unasked'}")
    labels = tick_states(world.script, harness.settings.stream.rate_hz)
    asked = {int(round(item.t_s * harness.settings.stream.rate_hz)): item for item in questions(world.script)} if ask else {}
    claims: list[TimedEvent] = []
    motion: list[TimedEvent] = []
    previous, moving = None, False
    for index, label in enumerate(labels):
        view = world.view(min(label.t_s, SECONDS))
        frame = Frame("camera", round(label.t_s * NANOSECONDS), "camera_optical_frame", view.image)
        item = asked.get(index) if label.state is State.SILENCE else None
        queries = (Query(f"q{index}", item.question, frame.stamp_ns),) if item else ()
        result = harness.step(Tick(index, frame.stamp_ns, (frame,), queries))
        tally.step_ms.append(result.seconds["step"] * 1e3)
        if item:
            said = result.decisions["camera"].text
            tally.answers.append((item.question, item.answer, said))
        else:
            tally.confusion[(label.state.value, result.decisions["camera"].state.value)] += 1
        claims += [TimedEvent(event.label, event.start_ns / NANOSECONDS, event.end_ns / NANOSECONDS) for event in result.events]
        small = cv2.resize(view.image, (48, 32), interpolation=cv2.INTER_AREA).astype(np.int16)
        changed = previous is not None and float(np.abs(small - previous).mean()) > 3.0
        if changed and not moving:
            motion.append(TimedEvent("person in red enters from the left", label.t_s, label.t_s))
        previous, moving = small, changed
    if not ask:
        tally.claims.append(claims)
        tally.motion.append(motion)
        tally.truth.append([TimedEvent(event.label, event.t_start, event.t_end) for event in world.script.events if event.t_end <= SECONDS])


def report(tally: Tally, streams: int, model_id: str) -> dict[str, Any]:
    """Everything that was counted, as plain values."""
    right = [said == answer for _, answer, said in tally.answers]
    by_question: dict[str, list[bool]] = {}
    for question, answer, said in tally.answers:
        by_question.setdefault(" ".join(question.split()[:2]), []).append(said == answer)
    silent_minutes = sum(count for (true, _), count in tally.confusion.items() if true == "silence") / 2 / 60
    false_alarms = tally.confusion[("silence", "response")]
    return {
        "model": model_id,
        "minutes": streams * SECONDS / 60,
        "first_seed": HELD_OUT_SEED,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
        | {"transformers": transformers.__version__, "python": platform.python_version()},
        "events": sum(map(len, tally.truth)),
        "ours": {f"{tolerance} s": tally.f1(tally.claims, tolerance) for tolerance in TOLERANCES_S},
        "motion threshold": {f"{tolerance} s": tally.f1(tally.motion, tolerance) for tolerance in TOLERANCES_S},
        "always silent": {f"{tolerance} s": tally.f1([[] for _ in tally.truth], tolerance) for tolerance in TOLERANCES_S},
        "false_alarms_per_silent_minute": false_alarms / max(silent_minutes, 1e-9),
        "state_confusion": {f"{true} as {said}": count for (true, said), count in sorted(tally.confusion.items())},
        "questions": len(right),
        "question_accuracy": sum(right) / max(1, len(right)),
        "question_accuracy_by_kind": {kind: sum(hits) / len(hits) for kind, hits in sorted(by_question.items())},
        "step_p50_ms": float(np.percentile(tally.step_ms, 50)),
        "step_p95_ms": float(np.percentile(tally.step_ms, 95)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=20, help="minutes of stream to watch")
    parser.add_argument("--model", default="", help="checkpoint directory; empty takes the shipped model")
    parser.add_argument("--out", type=Path, default=Path("build/bench/watching.json"))
    arguments = parser.parse_args()
    settings = load_settings({"model.directory": arguments.model})
    model = load_model(settings)
    harness = StreamingHarness(settings, model, "start")
    tally = Tally()
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.streams):
        watch(harness, seed, tally, ask=False)
        watch(harness, seed, tally, ask=True)
    outcome = report(tally, arguments.streams, model.model_id)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(outcome, indent=2) + "\n")
    print(f"{outcome['model']}: {outcome['minutes']:.0f} minutes of held-out stream, {outcome['events']} events")
    for name in ("ours", "motion threshold", "always silent"):
        cells = "  ".join(f"{tolerance}: {score['event_f1']:.3f}/{score['any_event_f1']:.3f}" for tolerance, score in outcome[name].items())
        print(f"  {name:17} event F1 labelled/any  {cells}")
    for key in ("false_alarms_per_silent_minute", "question_accuracy", "step_p50_ms", "step_p95_ms"):
        print(f"  {key:30} {outcome[key]:.3f}")
    print(f"  {outcome['question_accuracy_by_kind']}\n  {outcome['state_confusion']}\n  {outcome['ours']['1.5 s']}\n-> {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
