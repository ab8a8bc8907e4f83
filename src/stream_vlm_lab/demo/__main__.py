"""`python -m stream_vlm_lab.demo`: a demo of the node of about a minute, over DDS.

It shows that the node processes a camera, speaks, remembers and answers.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream_vlm.types import StreamError
from stream_vlm_lab.demo.processes import interrupt, use_private_domain

WORLD_SEED = 2_000_016
"""A simulated stream with people, a ball, a door and a lamp; no training uses it."""
WORLD_SECONDS = 60.0


def parser() -> argparse.ArgumentParser:
    """Declare the options; the environment variables VIDEO and BAG set --video and --bag."""
    options = argparse.ArgumentParser(prog="python -m stream_vlm_lab.demo", description=__doc__)
    source = options.add_mutually_exclusive_group()
    source.add_argument(
        "--video",
        default=os.environ.get("VIDEO") or None,
        help="play this video file instead of the simulated camera",
    )
    source.add_argument(
        "--bag",
        default=os.environ.get("BAG") or None,
        help="play this rosbag2 recording instead of the simulated camera",
    )
    source.add_argument("--seed", type=int, default=WORLD_SEED, help="seed of the simulated stream")
    options.add_argument(
        "--seconds",
        type=float,
        default=None,
        help="length to play in seconds; default: 60 of the simulated stream, all of a file",
    )
    options.add_argument(
        "--transport",
        choices=("raw", "compressed"),
        help="how the camera publishes; default: raw if simulated, compressed for files",
    )
    options.add_argument(
        "--model", default="", help="directory of a checkpoint; default: the shipped model"
    )
    options.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder for the results"
    )
    return options


def summary(report: dict[str, Any], folder: Path) -> str:
    """The last line of the demo: its results."""
    right = [answer["right"] for answer in report["recall"]]
    figures = []
    if report["event_f1"] is not None:
        timing = "-" if report["timing_error_s"] is None else f"{report['timing_error_s']:.2f} s"
        figures += [
            f"event F1 {report['event_f1']:.2f}",
            f"timing error {timing}",
            f"recall {sum(map(bool, right))}/{len(right)} correct",
        ]
    figures += [
        f"step p50 {report['step_p50_ms']:.0f} ms",
        f"p95 {report['step_p95_ms']:.0f} ms",
        f"{report['frames_dropped']} frames dropped",
        f"{report['rows']} rows",
    ]
    return f"{', '.join(figures)}   ({folder}: timeline.png, clip.mp4, report.json, memory.db)"


def main(arguments: Sequence[str] | None = None, node_command: Sequence[str] = ()) -> int:
    """Run the demo.

    Args:
        arguments: the command line; None for that of the process.
        node_command: program to use as the node; empty for the installed one.

    Returns:
        0 after a complete run, 1 with a message if a part failed, 130 if it was interrupted.
    """
    options = parser().parse_args(arguments)
    # Before ROS is imported, because the middleware reads the domain when it starts.
    use_private_domain()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        print(f"\n{summary(_run(options, node_command), options.out)}")
    except StreamError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; its processes were stopped", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, node_command: Sequence[str]) -> dict[str, Any]:
    from stream_vlm_lab.demo.demo_run import DemoRun

    footage = options.video or options.bag
    if footage:
        # On a small machine, best-effort transport loses large raw pictures. Real cameras compress
        # pictures for the same reason.
        demo = DemoRun(
            footage,
            options.out,
            options.seconds,
            options.transport or "compressed",
            options.model,
            node_command,
        )
        return demo.run()
    from stream_vlm.run_records import TimedEvent
    from stream_vlm_lab.simulation.labels.ground_truth import recall_questions
    from stream_vlm_lab.simulation.script.script_writer import make_script

    seconds = WORLD_SECONDS if options.seconds is None else options.seconds
    script = make_script(options.seed, seconds)
    truth = [TimedEvent(event.label, event.t_start, event.t_end) for event in script.events]
    demo = DemoRun(
        f"world:{options.seed}",
        options.out,
        seconds,
        options.transport or "raw",
        options.model,
        node_command,
    )
    demo.truth, demo.questions = truth, recall_questions(script)
    return demo.run()


if __name__ == "__main__":
    sys.exit(main())
