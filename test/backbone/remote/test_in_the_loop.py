"""The loop with a server as the model: two instructions at once, each event reported once."""

from pathlib import Path

import pytest
from colour_mind import colour_mind, frame
from model_server import serve_model

from stream_vlm import Pipeline, load_settings
from stream_vlm.types import NANOSECONDS, StepResult, Tick

pytest.importorskip("httpx", reason="httpx sends the requests")


def test_each_instruction_reports_its_events_once_and_the_chat_has_what_was_said(
    tmp_path: Path,
) -> None:
    colours = ["grey", "red", "red", "grey", "grey", "grey", "blue", "blue", "grey", "grey"]
    with serve_model(colour_mind) as server:
        settings = load_settings(
            {
                "cameras": ["front"],
                "model.url": server.url,
                "memory.path": str(tmp_path / "m.db"),
                "instructions": ["something red", "something blue"],
            }
        )
        results: list[StepResult] = []
        with Pipeline(settings) as pipeline:
            pipeline.begin_session("one", "a test", NANOSECONDS)
            for second, colour in enumerate(colours):
                shown = frame(colour, second)
                results.append(pipeline.step(Tick(second, shown.stamp_ns, (shown,))))
        said = [(said.text, said.stamp_ns) for one in results for said in one.utterances]
        chat = server.prompts[-1].text
    assert said == [
        ("The picture is red.", 2 * NANOSECONDS),
        ("The picture is blue.", 7 * NANOSECONDS),
    ]
    assert not any(one.faults for one in results)
    words = "<|im_end|>\n<|im_start|>assistant\nThe picture is {}.<|im_end|>\n"
    assert [chat.count(words.format(colour)) for colour in ("red", "blue")] == [1, 1]
