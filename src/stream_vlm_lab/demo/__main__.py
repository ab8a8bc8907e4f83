"""`python -m stream_vlm_lab.demo`: a robot watches, speaks up, remembers and answers, in about a
minute.
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
"""A simulated stream that no training run has seen, with people, a ball, a door and a lamp."""
WORLD_SECONDS = 60.0


def parser() -> argparse.ArgumentParser:
    """Declare the options; VIDEO and BAG in the environment stand for --video and --bag."""
    options = argparse.ArgumentParser(prog="python -m stream_vlm_lab.demo", description=__doc__)
    source = options.add_mutually_exclusive_group()
    source.add_argument(
        "--video",
        default=os.environ.get("VIDEO") or None,
        help="watch this video file instead of the simulated camera",
    )
    source.add_argument(
        "--bag",
        default=os.environ.get("BAG") or None,
        help="watch this rosbag2 recording instead of the simulated camera",
    )
    source.add_argument("--seed", type=int, default=WORLD_SEED, help="which simulated stream")
    options.add_argument(
        "--seconds",
        type=float,
        default=None,
        help="length of stream; a minute of the simulated one, all of the others",
    )
    options.add_argument(
        "--transport",
        choices=("raw", "compressed"),
        help="how the camera publishes; footage compressed when left out",
    )
    options.add_argument(
        "--model", default="", help="directory of a checkpoint; the shipped model when left out"
    )
    options.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder for what the demo leaves"
    )
    return options


def summary(report: dict[str, Any], folder: Path) -> str:
    """The demo's last line: its figures."""
    right = [answer["right"] for answer in report["recall"]]
    figures = []
    if report["event_f1"] is not None:
        timing = "-" if report["timing_error_s"] is None else f"{report['timing_error_s']:.2f} s"
        figures += [
            f"event F1 {report['event_f1']:.2f}",
            f"timing error {timing}",
            f"recall {sum(map(bool, right))}/{len(right)} right",
        ]
    figures += [
        f"step p50 {report['step_p50_ms']:.0f} ms",
        f"p95 {report['step_p95_ms']:.0f} ms",
        f"{report['frames_dropped']} frames dropped",
        f"{report['rows']} rows",
    ]
    return f"{', '.join(figures)}   ({folder}: timeline.png, clip.mp4, report.json, memory.db)"


def main(arguments: Sequence[str] | None = None, node_command: Sequence[str] = ()) -> int:
    """Run the demo; 0 when it came to its end, 1 with a message when a part broke, 130 when
    interrupted.

    Args:
        node_command: program that is the node; the installed one when empty.
    """
    options = parser().parse_args(arguments)
    # Before anything of ROS is imported: the middleware reads the domain when it starts.
    use_private_domain()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        print(f"\n{summary(_run(options, node_command), options.out)}")
    except StreamError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; its processes were ended", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, node_command: Sequence[str]) -> dict[str, Any]:
    from stream_vlm_lab.demo.demo_run import Show

    footage = options.video or options.bag
    if footage:
        # Large raw pictures are lost in best-effort transport on a small machine; real cameras
        # compress them for the same reason.
        show = Show(
            footage,
            options.out,
            options.seconds,
            options.transport or "compressed",
            options.model,
            node_command,
        )
        return show.run()
    from stream_vlm.run_records import TimedEvent
    from stream_vlm_lab.simulation.labels.ground_truth import recall_questions
    from stream_vlm_lab.simulation.script.script import make_script

    seconds = WORLD_SECONDS if options.seconds is None else options.seconds
    script = make_script(options.seed, seconds)
    truth = [TimedEvent(event.label, event.t_start, event.t_end) for event in script.events]
    show = Show(
        f"world:{options.seed}",
        options.out,
        seconds,
        options.transport or "raw",
        options.model,
        node_command,
    )
    show.truth, show.questions = truth, recall_questions(script)
    return show.run()


if __name__ == "__main__":
    sys.exit(main())
