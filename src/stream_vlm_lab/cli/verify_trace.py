"""`stream-vlm verify-trace`: replays recorded StreamingVLM runs and prints the differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stream_vlm_lab.evaluation.streamingvlm_trace.comparison import Comparison
    from stream_vlm_lab.evaluation.streamingvlm_trace.replay import Replay


@click.command("verify-trace", short_help="Replay recorded StreamingVLM runs and compare.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("trace_dir", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0.0),
    default=1e-3,
    show_default=True,
    help="Largest difference of logits that counts as equal.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device of the model.",
)
def verify_trace(checkpoint: Path, trace_dir: Path, tolerance: float, device: str) -> int:
    """Replay every trace in TRACE_DIR with CHECKPOINT and compare.

    It runs in float32, with the sliding policy in its compatible mode. A trace is trace_NAME.json
    with its trace_NAME.npz: kept tokens, positions, logits and generated ids of a run of the
    published StreamingVLM code. Exits with 1 if a trace deviates.
    """
    # torch and transformers take seconds to import; --help should not.
    from tqdm import tqdm

    from stream_vlm.backbone.checkpoint.loader import load_checkpoint
    from stream_vlm.config.settings import load_settings
    from stream_vlm_lab.evaluation.streamingvlm_trace.files import find_traces, read_trace
    from stream_vlm_lab.evaluation.streamingvlm_trace.replay import replay_trace

    traces = [read_trace(path) for path in find_traces(trace_dir)]
    loaded = load_checkpoint(
        load_settings(
            {"model.directory": str(checkpoint), "model.device": device, "model.dtype": "float32"}
        ).model
    )
    agreed = 0
    for recorded in traces:
        with tqdm(
            total=recorded.settings.rounds,
            desc=recorded.name,
            unit="round",
            leave=False,
            disable=None,
        ) as bar:
            replay = replay_trace(loaded, recorded, tolerance, bar.update)
        click.echo(_table(replay))
        agreed += replay.agrees
    click.echo(f"{agreed} of {len(traces)} traces agree")
    return 0 if agreed == len(traces) else 1


def _table(replay: Replay) -> str:
    """The comparison as text: a line for each quantity, and the time of a round."""
    lines = [
        f"{replay.name}: {replay.rounds} rounds",
        f"  {'quantity':<22}{'compared':>10}{'differing':>10}{'largest':>10}  outcome",
    ]
    lines += [_row(comparison) for comparison in replay.comparisons]
    parts = {stage: replay.median_ms(stage) for stage in replay.seconds}
    spent = ", ".join(f"{stage} {milliseconds:.1f}" for stage, milliseconds in parts.items())
    return "\n".join(
        [
            *lines,
            f"  median ms a round: {spent}",
            f"  {replay.name} {'agrees' if replay.agrees else 'DEVIATES'}",
            "",
        ]
    )


def _row(comparison: Comparison) -> str:
    largest = f"{comparison.largest:.1e}" if comparison.tolerance else f"{comparison.largest:g}"
    outcome = "agrees" if comparison.agrees else f"DEVIATES from round {comparison.first_round}"
    if comparison.close_calls:
        outcome += f" ({comparison.close_calls} too close to call)"
    return (
        f"  {comparison.quantity:<22}{comparison.compared:>10}{comparison.differing:>10}"
        f"{largest:>10}  {outcome}"
    )
