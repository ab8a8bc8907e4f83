"""A day in the life of the node: everything that a user can do, at once, faster than real time.

    make endurance                                                       # 24 simulated hours
    make endurance HOURS=0.2                                             # two short lives
    build/jazzy/run python benchmark/endure.py --hours 6 --factor 20 --seed 7

The node is the real process with the model that comes with the package, over real DDS. Its time is
simulated (`use_sim_time`), and this program publishes /clock: at most `--factor` times as fast as
real, and never faster than the node makes its steps. Cameras come, go, and change size, rate and
encoding. A recording loops, parameters are set, the lifecycle is cycled, odometry has gaps, the
disk is full for a while, and questions, recalls and watches come all the time. For one hour in
twelve a camera and a client live in another network namespace behind a link with delay and loss. At
the end of each hour the node is killed with SIGKILL while it works, and the memory file is searched
for everything that the node had published as stored, and for everything that a reader had seen.

The node ticks at 0.1 Hz, the lowest value of `stream.rate_hz`, so 24 hours have 8,640 ticks.
Exits with 1 if anything was lost or grows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from endurance import isolation

DISK_MB = 300


def parser() -> argparse.ArgumentParser:
    """Declare the options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--hours", type=float, default=24.0, help="simulated hours")
    options.add_argument(
        "--lives", type=int, help="lives of the node; default: one an hour, and at least two"
    )
    options.add_argument(
        "--factor", type=float, default=36.0, help="simulated seconds in a second, at most"
    )
    options.add_argument(
        "--request-period", type=float, default=2.0, help="real seconds between two questions"
    )
    options.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        help="begin no life that would not end within this real time",
    )
    options.add_argument("--seed", type=int, help="of everything that is drawn; default: random")
    options.add_argument("--out", type=Path, default=Path("build/endurance/report.json"))
    options.add_argument("--far", nargs=2, metavar=("NAMESPACE", "SEED"), help=argparse.SUPPRESS)
    return options


def main() -> int:
    """Run the day, or a part of it that another process started."""
    arguments = parser().parse_args()
    if arguments.far:
        from endurance import far

        return far.main(arguments.far[0], int(arguments.far[1]))
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    inside = isolation.INSIDE in os.environ
    if not inside and isolation.is_possible():
        words = [*sys.argv[1:], "--seed", str(arguments.seed)]
        return isolation.run_inside([sys.executable, __file__, *words])
    # A process in the background, and the first one of a namespace, ignore SIGINT otherwise.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Before ROS is imported, because the middleware reads this when it starts.
    if inside:
        isolation.prepare_inside()
        os.environ["ROS_DOMAIN_ID"] = "1"
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
    else:
        from stream_vlm_lab.demo.processes import use_private_domain

        use_private_domain()
        print(
            "namespaces are not permitted here: the disk is filled by a limit of file sizes, and no"
            " camera lives behind a slow link"
        )
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        report = run(arguments, Path(folder), inside)
        (arguments.out.parent).mkdir(parents=True, exist_ok=True)
        log = Path(folder) / "node.log"
        arguments.out.with_suffix(".log").write_bytes(log.read_bytes())
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    from endurance.picture import draw

    draw(report, arguments.out.with_suffix(".png"))
    print(json.dumps({key: report[key] for key in ("totals", "trends")}, indent=2))
    print(f"-> {arguments.out}, {arguments.out.with_suffix('.png')}")
    for finding in report["findings"]:
        print(f"FOUND: {finding}")
    return 1 if report["findings"] or report["stopped"] else 0


def run(arguments: argparse.Namespace, folder: Path, inside: bool) -> dict[str, Any]:
    """Run the lives; an interrupted or failed run is reported as far as it came."""
    from endurance.day import Day
    from endurance.report import summarize
    from endurance.robot import Robot
    from endurance.scenario import TICK_S, plan
    from endurance.setup import Setup
    from machine import machine

    lives = arguments.lives or max(2, round(arguments.hours))
    seconds = int(arguments.hours * 3600 / lives) // TICK_S * TICK_S
    planned = plan(arguments.seed, lives, seconds)
    print(f"seed {arguments.seed}, {lives} lives of {seconds} simulated seconds", flush=True)
    link = isolation.Link(arguments.seed) if inside else None
    setup = Setup(folder, arguments.seed, arguments.factor, arguments.request_period, inside, link)
    if inside:
        isolation.mount_disk(setup.memory.parent, DISK_MB)
    else:
        setup.memory.parent.mkdir(parents=True)
    began = time.monotonic()
    stopped = ""
    if link is not None:
        link.open()
    day = Day(setup, Robot(arguments.seed, arguments.request_period))
    try:
        for number, life in enumerate(planned):
            longest_s = max((hour["real_s"] for hour in day.hours), default=0.0)
            if time.monotonic() - began + longest_s > 60.0 * arguments.minutes:
                print(f"no time for more than {number} of {lives} lives", flush=True)
                break
            day.live(number, life)
            hour = day.hours[-1]
            print(
                f"life {number}: {hour['steps']} steps, {hour['late_steps']} late,"
                f" {hour['frames_dropped_wrongly']} frames dropped wrongly,"
                f" {hour['requests_lost']} answers lost, {hour['records_lost']} records lost,"
                f" {hour['rss_mb']} MB, {hour['threads']} threads, {hour['descriptors']} files,"
                f" {hour['real_s']} s",
                flush=True,
            )
    except (KeyboardInterrupt, Exception) as error:
        stopped = f"{type(error).__name__}: {error}"
        print(f"stopped after {len(day.hours)} lives: {stopped}", file=sys.stderr)
        if not day.hours:
            raise
    finally:
        day.robot.close()
        if link is not None:
            link.close()
            isolation.unmount(setup.memory.parent)
    real_s = time.monotonic() - began
    return {
        "machine": machine(),
        "seed": arguments.seed,
        "simulated_hours_planned": arguments.hours,
        "simulated_hours": round(sum(hour["simulated_s"] for hour in day.hours) / 3600, 2),
        "real_minutes": round(real_s / 60, 1),
        "factor_at_most": arguments.factor,
        "factor_reached": round(day.robot.elapsed_s / real_s, 1),
        "tick_s": TICK_S,
        "late_is": "published more than one real second after its tick",
        "namespaces": inside,
        "link": {"by": link.by, **link.counters} if link is not None else None,
        "stopped": stopped,
        "driver_errors": day.robot.errors[:5],
        **summarize(day.hours, day.within),
        "hours": day.hours,
        "within": day.within,
    }


if __name__ == "__main__":
    sys.exit(main())
