"""The command's part of measuring the protocols: which contestants, and their report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stream_vlm.backbone.remote.model import RemoteModel
from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.config.settings import Settings
from stream_vlm_lab.evaluation.online.online_pass import HarnessModel
from stream_vlm_lab.evaluation.report import format_number, markdown_table
from stream_vlm_lab.evaluation.scripted_vlm.one_watch_model import OneWatchModel
from stream_vlm_lab.evaluation.scripted_vlm.protocol_exam import Contestant, examine_protocols
from stream_vlm_lab.evaluation.scripted_vlm.quirks import SCHEME, parse_quirks
from stream_vlm_lab.evaluation.scripted_vlm.twin import ScriptedTransport

NOISES = (0.0, 0.05, 0.2)
"""Shares of mistakes that are measured where the model's name gives none."""
RATE_HZ = 1.0
"""Ticks a second, as of every model that was not tuned for streams."""
BEFORE = "one watch, as before"
NEW = {"off": "instructions", "on": "instructions, second look"}


def is_scripted(model: str) -> bool:
    """Whether `model` names a scripted model."""
    return model.partition(":")[0] == SCHEME


def run_protocols(
    model: str,
    settings: Settings,
    world: str,
    minutes: float,
    first_seed: int,
    on_stream: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Measure the protocol of standing instructions and the one before it.

    Args:
        model: name of the scripted model; without `noise` it is measured at each of `NOISES`.
        settings: settings of the new protocol; `instructions` and `stream.rate_hz` count for both.
        world: "heldout", "objects" or "backgrounds".
        minutes: length of all rooms together, a minute each.
        first_seed: seed of the first room.
        on_stream: called after each room of each contestant.

    Returns:
        The report, as plain values for JSON.

    Raises:
        QuirksError: the name of the model cannot be read.
    """
    given = parse_quirks(model).noise
    noises = (given,) if "noise=" in model else NOISES
    instructions = tuple(settings.instructions) or DEFAULT_INSTRUCTIONS
    settings.stream.take_own_rate(RATE_HZ)
    rows = [
        contestant
        for noise in noises
        for contestant in contestants(_with_noise(model, noise), noise, settings, instructions)
    ]
    rooms = max(1, round(minutes))
    rate_hz = settings.stream.tick_rate_hz
    figures = examine_protocols(rows, instructions, rooms, rate_hz, first_seed, on_stream, world)
    return {
        "model": model,
        "world": world,
        "minutes": rooms,
        "first_seed": first_seed,
        "last_seed": first_seed + rooms - 1,
        "rate_hz": rate_hz,
        "instructions": list(instructions),
        "protocols": figures,
    }


def contestants(
    name: str, noise: float, settings: Settings, instructions: tuple[str, ...]
) -> list[Contestant]:
    """The old protocol, and the new one without and with the second look, each with its model."""
    transport = ScriptedTransport(name)
    watch = "; ".join(instructions)
    old = settings.model_copy(deep=True, update={"instructions": []})
    before = HarnessModel(BEFORE, old, OneWatchModel(transport, name))
    rows = [Contestant(f"{BEFORE}, {noise:.0%} noise", before, transport.usage, watch)]
    for verify, protocol in NEW.items():
        decision = settings.decision.model_copy(update={"verify": verify})
        own = settings.model_copy(deep=True, update={"decision": decision})
        transport = ScriptedTransport(name)
        harness = HarnessModel(protocol, own, RemoteModel(own, transport))
        rows.append(Contestant(f"{protocol}, {noise:.0%} noise", harness, transport.usage))
    return rows


def _with_noise(model: str, noise: float) -> str:
    if "noise=" in model:
        return model
    scheme, _, words = model.partition(":")
    return f"{scheme}:{','.join(filter(None, (f'noise={noise}', words)))}"


def protocol_text(report: dict[str, Any]) -> str:
    """The report as text with a table."""
    rows = []
    for name, figures in report["protocols"].items():
        computed = figures["prompt_tokens_per_tick"] - figures["cached_tokens_per_tick"]
        rows.append(
            [
                name,
                format_number(figures["event_f1"]["1.5 s"]["what_and_when"]["f1"]),
                format_number(figures["reports_sw_f1"]["sw_f1_equal_weights"]),
                f"{figures['events_reported']} of {figures['events']}",
                format_number(figures["reports_for_one_event"]),
                format_number(figures["false_reports_per_hour"], 0),
                format_number(figures["requests_per_tick"]),
                format_number(computed, 0),
                format_number(figures["completion_tokens_per_tick"], 1),
            ]
        )
    head = (
        "protocol",
        "event F1, 1.5 s",
        "SW-F1 equal weights",
        "events reported",
        "reports of one event",
        "false reports / hour",
        "requests / tick",
        "new tokens read / tick",
        "tokens written / tick",
    )
    asked = "\n".join(f"- {instruction}" for instruction in report["instructions"])
    left_out = next(iter(report["protocols"].values()))["events_not_asked_for"]
    return (
        f"# {report['model']}: {report['minutes']} minutes of {report['world']} rooms,"
        f" {report['rate_hz']:g} Hz\n\nInstructions:\n\n{asked}\n\n{left_out} more events are not"
        f" asked for.\n\n{markdown_table(head, rows)}\n"
    )
