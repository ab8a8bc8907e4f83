"""Forward passes with fixed shapes give the same results and are captured once for each size."""

from pathlib import Path

import pytest
import torch
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint

from stream_vlm.backbone import load_cached_model
from stream_vlm.backbone.kv_cache.cuda_graphs import MOST_SIZES, StaticForward
from stream_vlm.backbone.streaming.camera_stream import CachedStream
from stream_vlm.types import Decision, Query, State


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def watch(stream: CachedStream, ticks: int) -> list[Decision]:
    """Run a stream with responses and questions, so turns have several sizes."""
    decisions = []
    for index in range(ticks):
        query = Query(f"q{index}", "is the door open ?", 0) if index % 7 == 3 else None
        state = State.RESPONSE if query or index % 5 == 0 else State.SILENCE

        def gate(decision: Decision, to: State = state) -> Decision:
            return Decision(to, decision.probabilities)

        decisions.append(step_alone(stream, random_frame(index), query, gate))
    return decisions


@pytest.mark.parametrize("policy", ["last_turns", "chunked", "sliding", "last_frames"])
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        ),
    ],
)
def test_fixed_shapes_give_the_same_words_and_probabilities(
    checkpoint: Path, policy: str, device: str
) -> None:
    settings = {
        "context__policy": policy,
        "context__max_seconds": 4.0,
        "model__device": device,
        "model__dtype": "float32",
    }
    plain, fixed = (
        load_cached_model(settings_for(checkpoint, model__static_shapes=choice, **settings))
        for choice in ("off", "on")
    )
    expected, got = watch(plain.open_stream("front"), 24), watch(fixed.open_stream("front"), 24)
    assert [decision.text for decision in got] == [decision.text for decision in expected]
    for one, other in zip(got, expected, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(
            list(other.probabilities.values()), abs=1e-4
        )


def test_each_size_is_captured_once_and_only_a_few_are_kept(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[int] = []
    create = StaticForward.__init__

    def counting(
        self: StaticForward, model: object, embeddings: torch.Tensor, *rest: object
    ) -> None:
        prepared.append(embeddings.shape[1])
        create(self, model, embeddings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(StaticForward, "__init__", counting)
    stream = load_cached_model(settings_for(checkpoint, model__static_shapes="on")).open_stream(
        "front"
    )
    watch(stream, 40)
    assert 1 in prepared, "decoding feeds one token"
    assert len(prepared) == len(set(prepared)), f"{prepared}: a size was captured twice"
    assert stream.forward is not None
    assert stream.forward.static is not None
    assert len(stream.forward.static) <= MOST_SIZES
