"""Quantized weights and device maps for several GPUs.

No GPU is needed: the libraries run on a CPU, and a device map contains only names and sizes.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixtures import FAMILIES, random_frame, settings_for, step_alone, write_checkpoint
from transformers import AutoConfig

from stream_vlm.backbone import StreamingModel, load_cached_model
from stream_vlm.backbone.checkpoint.device_map import spread
from stream_vlm.backbone.checkpoint.loader import ARCHITECTURES, load_checkpoint
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.types import Decision

needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None
    or importlib.util.find_spec("accelerate") is None,
    reason="bitsandbytes or accelerate is not installed",
)


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), family=request.param)


def decisions(model: StreamingModel, count: int = 8) -> list[Decision]:
    stream = model.open_stream("front")
    return [
        step_alone(stream, random_frame(index), None, lambda decision: decision)
        for index in range(count)
    ]


def shares(decided: list[Decision]) -> list[float]:
    return [share for decision in decided for share in decision.probabilities.values()]


@needs_bitsandbytes
@pytest.mark.parametrize(("weights", "tolerance"), [("int8", 0.02), ("int4", 0.1)])
def test_quantized_weights_give_nearly_the_same_probabilities(
    checkpoint: Path, weights: str, tolerance: float
) -> None:
    exact, rounded = (
        load_cached_model(settings_for(checkpoint)),
        load_cached_model(settings_for(checkpoint, model__weights=weights)),
    )
    assert rounded.model_id == f"{exact.model_id}-{weights}"
    given, expected = shares(decisions(rounded)), shares(decisions(exact))
    assert given == pytest.approx(expected, abs=tolerance)
    assert given != expected


@needs_bitsandbytes
def test_a_stream_with_int8_weights_logs_nothing(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_cached_model(settings_for(checkpoint, model__weights="int8"))
    caplog.clear()
    decisions(model, 2)
    assert caplog.text == ""


@needs_bitsandbytes
@pytest.mark.parametrize(("weights", "bytes_a_weight"), [("int8", 1.0), ("int4", 0.5)])
def test_only_the_layers_of_the_language_model_are_quantized(
    checkpoint: Path, weights: str, bytes_a_weight: float
) -> None:
    full = load_checkpoint(settings_for(checkpoint).model).model
    model = load_checkpoint(settings_for(checkpoint, model__weights=weights).model).model
    for name, weight in model.named_parameters():
        original = full.get_parameter(name)
        if (
            "_proj." in name
            and name.startswith("model.language_model.layers")
            and name.endswith(".weight")
        ):
            assert weight.numel() * weight.element_size() == original.numel() * bytes_a_weight, name
        else:
            assert torch.equal(weight, original), name


@needs_bitsandbytes
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_weights_that_are_stored_quantized_are_loaded_unchanged(
    tmp_path: Path, weights: str
) -> None:
    directory = write_checkpoint(tmp_path / "original")
    load_checkpoint(settings_for(directory, model__weights=weights).model).model.save_pretrained(
        tmp_path / "saved"
    )
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "stream_config.json",
    ):
        (tmp_path / "saved" / name).write_bytes((directory / name).read_bytes())
    with pytest.raises(CheckpointError, match=r"already quantized; leave model\.weights at 'auto'"):
        load_checkpoint(settings_for(tmp_path / "saved", model__weights="int8").model)
    again = load_cached_model(settings_for(tmp_path / "saved"))
    assert shares(decisions(again)) == pytest.approx(
        shares(decisions(load_cached_model(settings_for(directory, model__weights=weights)))),
        abs=1e-5,
    )
    assert again.checkpoint.quantized == ("int8" if weights == "int8" else "bitsandbytes")


def test_a_missing_library_is_named_with_the_setting_that_needs_it(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        CheckpointError,
        match=r"model\.weights 'int4' needs accelerate.* install it with 'pip install accelerate'",
    ):
        load_checkpoint(settings_for(checkpoint, model__weights="int4").model)


def planned(checkpoint: Path, gpus: Sequence[float], weights: str = "auto") -> dict[str, Any]:
    """The device map for GPUs with `gpus` times the memory of the model in bfloat16."""
    config: Any = AutoConfig.from_pretrained(checkpoint)
    model_class = ARCHITECTURES[config.model_type]
    with torch.device("meta"):
        size = 2 * sum(weight.numel() for weight in model_class(config).parameters())
    room: dict[int | str, int | str] = {
        number: int(share * size) for number, share in enumerate(gpus)
    }
    return spread(model_class, config, torch.bfloat16, weights, room | {"cpu": "1GB"})


@needs_accelerate
def test_a_large_model_is_distributed_without_splitting_its_tower_or_a_layer(
    checkpoint: Path,
) -> None:
    places = planned(checkpoint, (0.7, 0.7))
    assert set(places.values()) == {0, 1}
    assert "model.visual" in places
    assert all(
        name.count(".") == 3 for name in places if name.startswith("model.language_model.layers.")
    )


@needs_accelerate
def test_a_model_larger_than_all_gpus_is_refused_unless_it_fits_quantized(checkpoint: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"larger than the free memory of all GPUs.*model\.weights int8 or int4",
    ):
        planned(checkpoint, (0.65, 0.25))
    assert set(planned(checkpoint, (0.65, 0.25), "int4").values()) <= {0, 1}


@needs_accelerate
def test_modules_that_move_their_inputs_give_the_same_decisions(checkpoint: Path) -> None:
    accelerate = importlib.import_module("accelerate")
    expected = decisions(load_cached_model(settings_for(checkpoint)))
    hooked = load_cached_model(settings_for(checkpoint))
    modules = [
        "model.visual",
        "model.language_model.embed_tokens",
        "model.language_model.norm",
        "model.language_model.rotary_emb",
        "lm_head",
    ]
    places = dict.fromkeys(
        [*modules, *(f"model.language_model.layers.{index}" for index in range(4))], "cpu"
    )
    accelerate.dispatch_model(hooked.checkpoint.model, places, main_device="cpu", force_hooks=True)
    assert hasattr(hooked.checkpoint.model.model.language_model.layers[2], "_hf_hook")
    assert decisions(hooked) == expected


@needs_bitsandbytes
def test_int8_weights_run_without_fixed_shapes(checkpoint: Path) -> None:
    int8, int4 = (
        load_cached_model(
            settings_for(checkpoint, model__weights=weights, model__static_shapes="on")
        )
        for weights in ("int8", "int4")
    )
    assert not int8.parts.has_static_shapes
    assert int4.parts.has_static_shapes
    eager = load_cached_model(settings_for(checkpoint, model__weights="int4"))
    assert shares(decisions(int4)) == pytest.approx(shares(decisions(eager)), abs=1e-3)
