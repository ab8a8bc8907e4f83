"""Every architecture with a KV cache gives the same logits as its model in transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import (
    WITH_EXPERTS,
    decisions,
    random_frame,
    settings_for,
    step_alone,
    write_checkpoint,
)
from numpy.typing import NDArray
from transformers import AutoModelForImageTextToText

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.kv_cache.cached_forward import CachedForward
from stream_vlm.context.segments import Segment, SegmentKind, whole
from stream_vlm.model_protocol import Turn
from stream_vlm.types import Decision, Query, StreamError
from stream_vlm.vision.tower import VisionTokens

SIZES = [(64, 96), (96, 64), (32, 32), (128, 64)]
Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module", params=WITH_EXPERTS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("deep"), family=request.param)


@pytest.fixture(scope="module", params=WITH_EXPERTS)
def shallow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("shallow"), layers=1, family=request.param)


def mixed_turns(
    model: StreamingModel, count: int, seed: int
) -> tuple[list[list[Segment]], list[Pictures]]:
    """Turns of random words around pictures of changing sizes.

    Returns:
        The segments of each turn, and the pictures, uint8 RGB, (1, T, H, W, 3).
    """
    rng = np.random.default_rng(seed)
    turns, pictures = [], []
    for number in range(count):
        height, width = SIZES[int(rng.integers(len(SIZES)))]
        rows, columns = model.checkpoint.pictures.grid(height, width)
        before, after = (
            tuple((11 + rng.integers(0, 8, int(rng.integers(1, 6)))).tolist()) for _ in range(2)
        )
        turns.append(
            [
                Segment(SegmentKind.TEXT, number, before),
                Segment(
                    SegmentKind.FRAME,
                    number,
                    (model.parts.tokens.picture,) * (rows * columns),
                    (rows, columns),
                ),
                Segment(SegmentKind.ACTION, number, after),
            ]
        )
        pictures.append(rng.integers(0, 256, (1, 2, height, width, 3), dtype=np.uint8))
    return turns, pictures


@torch.inference_mode()
def unmodified_logits(
    directory: Path, model: StreamingModel, turns: list[list[Segment]], pictures: list[Pictures]
) -> torch.Tensor:
    """Logits (tokens, vocabulary) of one full forward pass of the model in transformers.

    It uses the tower, the positions and the attention of transformers.
    """
    plain: Any = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    ids = torch.tensor(
        [[token for turn in turns for segment in turn for token in segment.token_ids]]
    )
    patch = model.checkpoint.pictures.patch_size
    grids = torch.tensor(
        [[1, picture.shape[2] // patch, picture.shape[3] // patch] for picture in pictures]
    )
    pixels = torch.cat([model.checkpoint.pictures.patches(picture) for picture in pictures])
    is_picture = (ids == model.parts.tokens.picture).int()
    logits: torch.Tensor = plain(
        input_ids=ids,
        pixel_values=pixels,
        image_grid_thw=grids,
        mm_token_type_ids=is_picture,
        use_cache=False,
    ).logits
    return logits[0]


def seen(model: StreamingModel, picture: Pictures) -> VisionTokens:
    return model.parts.tower.encode(picture)[0]


@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_feeding_turn_by_turn_equals_one_full_forward_pass_of_the_unmodified_model(
    checkpoint: Path, seed: int
) -> None:
    model = load_cached_model(settings_for(checkpoint))
    turns, pictures = mixed_turns(model, 6, seed)
    expected = unmodified_logits(checkpoint, model, turns, pictures)
    forward = CachedForward(model.checkpoint.model, capacity=400)
    end = 0
    for turn, picture in zip(turns, pictures, strict=True):
        logits = forward.feed(turn, seen(model, picture))
        end += sum(map(len, turn))
        assert torch.allclose(logits, expected[end - 1], atol=1e-4)


@torch.inference_mode()
def test_the_logits_depend_on_the_deepstack_features(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, family="qwen3_vl")
    model = load_cached_model(settings_for(directory))
    turns, pictures = mixed_turns(model, 2, seed=0)
    expected = unmodified_logits(directory, model, turns, pictures)[-1]
    vision = [seen(model, picture) for picture in pictures]
    assert [len(picture.deepstack) for picture in vision] == [2, 2]
    without_levels = CachedForward(model.checkpoint.model, capacity=400)
    for turn, picture in zip(turns, vision, strict=True):
        logits = without_levels.feed(turn, VisionTokens(picture.tokens))
    assert (logits - expected).abs().max() > 1e-2


@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_after_an_eviction_a_one_layer_model_equals_a_new_prefill_of_the_kept_turns(
    shallow: Path, seed: int
) -> None:
    model = load_cached_model(settings_for(shallow))
    turns, pictures = mixed_turns(model, 8, seed)
    forward = CachedForward(model.checkpoint.model, capacity=400)
    for turn, picture in zip(turns[:6], pictures[:6], strict=True):
        forward.feed(turn, seen(model, picture))
    forward.arrange(
        [
            whole(index, segment)
            for index, segment in enumerate(forward.segments)
            if segment.turn not in (0, 1, 3)
        ]
    )
    for turn, picture in zip(turns[6:], pictures[6:], strict=True):
        logits = forward.feed(turn, seen(model, picture))
    kept = [2, 4, 5, 6, 7]
    expected = unmodified_logits(
        shallow, model, [turns[number] for number in kept], [pictures[number] for number in kept]
    )
    assert torch.allclose(logits, expected[-1], atol=1e-4)


def test_streams_in_one_step_decide_as_each_alone(checkpoint: Path) -> None:
    model = load_cached_model(settings_for(checkpoint, context__max_seconds=3.0))
    cameras = ("front", "rear", "left")

    def turn(stream: Any, camera: str, index: int) -> Turn:
        query = Query("q", "is the door open ?", 0) if (index, camera) == (2, "rear") else None
        return Turn(
            stream,
            random_frame(100 * cameras.index(camera) + index, camera),
            query=query,
        )

    alone: dict[str, list[Decision | StreamError]] = {}
    for camera in cameras:
        stream = model.open_stream(camera)
        alone[camera] = [
            decisions(model.step([turn(stream, camera, index)]))[0] for index in range(10)
        ]
    streams = {camera: model.open_stream(camera) for camera in cameras}
    for index in range(10):
        for camera, outcome in zip(
            cameras,
            decisions(model.step([turn(streams[camera], camera, index) for camera in cameras])),
            strict=True,
        ):
            expected = alone[camera][index]
            assert isinstance(outcome, Decision)
            assert isinstance(expected, Decision)
            assert (outcome.state, outcome.text) == (expected.state, expected.text)
            assert dict(outcome.probabilities) == pytest.approx(
                dict(expected.probabilities), abs=1e-5
            )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_probabilities(checkpoint: Path, dtype: str) -> None:
    def probabilities(**values: str) -> list[float]:
        stream = load_cached_model(settings_for(checkpoint, **values)).open_stream("front")
        decisions = [
            step_alone(stream, random_frame(index), None, lambda decision: decision)
            for index in range(4)
        ]
        return [share for decision in decisions for share in decision.probabilities.values()]

    assert probabilities(model__dtype=dtype) == pytest.approx(probabilities(), abs=0.05)


def test_fixed_shapes_give_the_same_probabilities(checkpoint: Path) -> None:
    def decisions(choice: str) -> list[float]:
        stream = load_cached_model(
            settings_for(checkpoint, model__static_shapes=choice)
        ).open_stream("front")
        decided = [
            step_alone(stream, random_frame(index), None, lambda decision: decision)
            for index in range(8)
        ]
        return [share for decision in decided for share in decision.probabilities.values()]

    assert decisions("on") == pytest.approx(decisions("off"), abs=1e-5)
