"""`stream-vlm eval`: examines a model on simulated rooms, labelled footage or a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_vlm.cli.options.settings import settings_of_run
from stream_vlm.config.settings import Settings
from stream_vlm_lab.simulation.script.script import HELD_OUT_SEED

if TYPE_CHECKING:
    from stream_vlm_lab.evaluation.benchmarks.run_benchmark import BenchmarkRequest
    from stream_vlm_lab.evaluation.online.online_pass import ExaminedModel, HarnessModel

WORLDS = ("heldout", "objects", "backgrounds", "faults", "long")
BENCHMARKS = ("ovo", "streamo", "inf-streams", "streaming-eval")


@click.command(
    name="eval",
    short_help="Examine a model on simulated rooms, footage or benchmarks.",
)
@click.option(
    "--world",
    type=click.Choice(WORLDS),
    help="Held-out simulated rooms: plain, unseen objects or backgrounds, camera faults, long.",
)
@click.option(
    "--footage", type=click.Path(path_type=Path), help="Folder of clips with annotations.json."
)
@click.option(
    "--benchmark",
    type=click.Choice(BENCHMARKS),
    help="A published benchmark; give its file with --data.",
)
@click.option(
    "--data", type=click.Path(path_type=Path, dir_okay=False), help="The benchmark's annotations."
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    help="Answers to score; without it the model runs on --videos.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Another model's answers, for comparisons by a judge.",
)
@click.option(
    "--videos",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the benchmark's videos.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=0,
    help="Run at most this many items (of each task); 0 for all.",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for report.json, .md and .png.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    help="Length of all streams together in minutes (--world).",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=HELD_OUT_SEED,
    show_default=True,
    help="Seed of the first room; trainings use seeds from 0 on (--world).",
)
@click.option(
    "--watches",
    is_flag=True,
    help='Ask "tell me when ..." instead of questions (--world).',
)
@click.option(
    "--model",
    "directory",
    default="",
    help="Directory of a checkpoint, or scripted:NAME=VALUE,... for a model without weights"
    " (--world); default: the shipped model.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any setting, for example decision.response_threshold=0.6.",
)
@click.option("--quiet", is_flag=True, help="Print no progress bar.")
def evaluate(
    world: str | None,
    footage: Path | None,
    benchmark: str | None,
    data: Path | None,
    answers: Path | None,
    against: Path | None,
    videos: Path | None,
    limit: int,
    folder: Path,
    minutes: float,
    seed: int,
    watches: bool,
    directory: str,
    assignments: tuple[str, ...],
    quiet: bool,
) -> None:
    """Run a model online and score what it says against what happened.

    Online means one pass: each frame is shown once, and each question is asked at its own time.

    Some benchmarks need a language model as judge, behind any endpoint with the OpenAI chat
    protocol. Set STREAM_VLM_JUDGE_URL, STREAM_VLM_JUDGE_MODEL and, if the endpoint needs one,
    STREAM_VLM_JUDGE_KEY.
    """
    if sum(choice is not None for choice in (world, footage, benchmark)) != 1:
        raise click.UsageError("give exactly one of --world, --footage and --benchmark")
    if (benchmark is None) != (data is None):
        raise click.UsageError("--benchmark and --data must be given together")
    if watches and world is None:
        raise click.UsageError("--watches needs --world")
    scripted = directory if directory.partition(":")[0] == "scripted" else ""
    if scripted and (world in (None, "faults", "long") or watches):
        raise click.UsageError(
            "a scripted model answers about --world heldout, objects and backgrounds, without"
            " --watches; give instructions with --set instructions=..."
        )
    own = {"model.directory": directory} if directory and not scripted else {}
    settings = settings_of_run(assignments, own)
    if scripted and world is not None:
        _protocols(scripted, world, minutes, seed, settings, folder, quiet)
    elif world is not None:
        _world(world, minutes, seed, watches, settings, folder, quiet)
    elif footage is not None:
        _footage(footage, settings, folder)
    elif benchmark is not None and data is not None:
        from stream_vlm_lab.evaluation.benchmarks.run_benchmark import BenchmarkRequest

        _benchmark(
            BenchmarkRequest(benchmark, data, answers, against, videos, limit),
            settings,
            folder,
            quiet,
        )


def _world(
    world: str,
    minutes: float,
    seed: int,
    watches: bool,
    settings: Settings,
    folder: Path,
    quiet: bool,
) -> None:
    # matplotlib and torch take seconds to import; --help should not.
    from tqdm import tqdm

    from stream_vlm_lab.evaluation.plots.chart import draw_chart, draw_watches
    from stream_vlm_lab.evaluation.plots.confusion_matrix import draw_confusion
    from stream_vlm_lab.evaluation.report import machine, world_text, write_report
    from stream_vlm_lab.evaluation.simulated.exam import draw_first, examine

    ours, recent, model_id = _models(settings)
    # Recomputing the context at every tick would take too long on a long stream.
    models: list[ExaminedModel] = [ours] if world == "long" else [ours, recent]
    with tqdm(
        desc=f"{world} rooms", unit="stream", leave=False, disable=True if quiet else None
    ) as bar:
        outcome = examine(
            world,
            minutes,
            settings.stream.tick_rate_hz,
            models,
            bar.update,
            settings.events,
            watches,
            seed,
        )
    report = {"model": model_id, "machine": machine(), **outcome.as_dict()}
    text = world_text(report)
    write_report(folder, report, text)
    draw_chart(
        outcome.scores,
        f"{model_id}: {outcome.minutes:g} minutes of {world} rooms, {outcome.events} events",
        folder / "report.png",
    )
    draw_confusion(
        {name: scores["state_confusion"] for name, scores in outcome.scores.items()},
        folder / "confusion.png",
    )
    if watches:
        watch_scores = {name: scores["watches"] for name, scores in outcome.scores.items()}
        draw_watches(
            watch_scores,
            f"{model_id}: watches, {outcome.minutes:g} minutes of {world} rooms",
            folder / "watches.png",
        )
    draw_first(outcome, ours.name, folder / "first-stream.png")
    click.echo(
        f"{text}\n-> {folder}: report.json, report.md, report.png,"
        f" confusion.png{', watches.png' if watches else ''}, first-stream.png"
    )


def _protocols(
    model: str,
    world: str,
    minutes: float,
    seed: int,
    settings: Settings,
    folder: Path,
    quiet: bool,
) -> None:
    from tqdm import tqdm

    from stream_vlm_lab.evaluation.report import machine, write_report
    from stream_vlm_lab.evaluation.scripted_vlm.protocol_run import protocol_text, run_protocols

    with tqdm(
        desc=f"{world} rooms", unit="run", leave=False, disable=True if quiet else None
    ) as bar:
        outcome = run_protocols(model, settings, world, minutes, seed, bar.update)
    text = protocol_text(outcome)
    write_report(folder, {"machine": machine(), **outcome}, text)
    click.echo(f"{text}\n-> {folder}: report.json, report.md")


def _models(settings: Settings) -> tuple[HarnessModel, HarnessModel, str]:
    """The model with its settings, and the same checkpoint without a streaming context.

    The second one gets only its last 4 frames and the question, computed again at every tick.
    """
    from stream_vlm.backbone.checkpoint.loader import load_checkpoint
    from stream_vlm.backbone.streaming_model import StreamingModel
    from stream_vlm_lab.evaluation.online.online_pass import HarnessModel

    checkpoint = load_checkpoint(settings.model)
    model = StreamingModel(checkpoint, settings)
    bare = settings.model_copy(
        update={
            "context": settings.context.model_copy(
                update={"policy": "last_frames", "frames": 4, "recompute": True}
            )
        }
    )
    return (
        HarnessModel("ours", settings, model),
        HarnessModel("last 4 frames", bare, StreamingModel(checkpoint, bare)),
        model.model_id,
    )


def _footage(clips: Path, settings: Settings, folder: Path) -> None:
    from stream_vlm.backbone import load_model
    from stream_vlm_lab.evaluation.footage.exam import footage_text, run_footage_exam
    from stream_vlm_lab.evaluation.online.online_pass import HarnessModel
    from stream_vlm_lab.evaluation.report import machine, write_report

    model = load_model(settings)
    outcome = run_footage_exam(
        clips, HarnessModel("ours", settings, model), settings.stream.tick_rate_hz, folder
    )
    report = {"model": model.model_id, "machine": machine(), **outcome}
    text = footage_text(report)
    write_report(folder, report, text)
    click.echo(f"{text}\n-> {folder}")


def _benchmark(what: BenchmarkRequest, settings: Settings, folder: Path, quiet: bool) -> None:
    from contextlib import nullcontext

    from tqdm import tqdm

    from stream_vlm_lab.evaluation.benchmarks.benchmark_report import benchmark_text
    from stream_vlm_lab.evaluation.benchmarks.judge import judge_from_environment
    from stream_vlm_lab.evaluation.benchmarks.run_benchmark import examine_benchmark
    from stream_vlm_lab.evaluation.report import machine, write_report

    made: dict[str, object] = {}

    def open_model() -> tuple[HarnessModel, float]:
        from stream_vlm.backbone import load_model
        from stream_vlm_lab.evaluation.online.online_pass import HarnessModel

        model = load_model(settings)
        made.update(model=model.model_id, machine=machine())
        return HarnessModel("ours", settings, model), settings.stream.tick_rate_hz

    judge = judge_from_environment()
    with (
        judge or nullcontext(),
        tqdm(
            desc=what.benchmark,
            unit="item",
            leave=False,
            disable=True if quiet or what.answers else None,
        ) as bar,
    ):
        outcome = examine_benchmark(what, open_model, judge, folder, bar.update)
    report = {**made, **outcome}
    text = benchmark_text(report)
    write_report(folder, report, text)
    click.echo(f"{text}\n-> {folder}: report.json, report.md")
