"""Quantized weights: which library makes or reads them, and what is refused with which reason."""

import importlib
import importlib.util
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint
from safetensors.torch import load_file, save_file

from stream_vlm.backbone import load_cached_model
from stream_vlm.backbone.checkpoint.loader import load_checkpoint
from stream_vlm.backbone.checkpoint.quantization import choose_quantization
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError


def needs(*libraries: str) -> pytest.MarkDecorator:
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed")


CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def probabilities(directory: Path, **settings: Any) -> list[float]:
    stream = load_cached_model(settings_for(directory, **settings)).open_stream("front")
    decisions = [
        step_alone(stream, random_frame(index), None, lambda decision: decision)
        for index in range(4)
    ]
    return [share for decision in decisions for share in decision.probabilities.values()]


def break_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bitsandbytes fail as on a Jetson: at its first kernel, not when it is imported."""
    layers: Any = importlib.import_module("bitsandbytes.nn")

    def failing(*_: Any) -> None:
        raise RuntimeError("named symbol not found at line 75 in file ops.cu")

    monkeypatch.setattr(layers.Linear8bitLt, "forward", failing)
    monkeypatch.setattr(layers.Linear4bit, "forward", failing)


@needs("bitsandbytes")
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_bitsandbytes_is_taken_where_its_kernel_runs(weights: str) -> None:
    chosen = choose_quantization(weights, CPU, torch.float32)
    assert (chosen.bits, chosen.library) == (weights, "bitsandbytes")


@needs("bitsandbytes")
def test_a_library_that_fails_at_its_first_kernel_is_refused_before_the_weights_are_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_bitsandbytes(monkeypatch)
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(
        CheckpointError,
        match=r"'int8': no library works on cpu.*bitsandbytes fails \(RuntimeError: named symbol.*"
        r"torchao fails.*pip install torchao",
    ):
        load_checkpoint(settings_for(directory, model__weights="int8").model)


@needs("bitsandbytes", "torchao")
def test_torchao_takes_over_where_bitsandbytes_fails_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_bitsandbytes(monkeypatch)
    chosen = choose_quantization("int8", CPU, torch.float32)
    assert chosen.library == "torchao"
    assert "bitsandbytes fails" in caplog.text
    assert "torchao is used" in caplog.text


@needs("torchao", "accelerate")
def test_weights_of_torchao_give_nearly_the_same_probabilities(directory: Path) -> None:
    given = probabilities(directory, model__weights="torchao-int8")
    expected = probabilities(directory)
    assert given == pytest.approx(expected, abs=0.02)
    assert given != expected


@needs("torchao", "accelerate")
def test_torchao_quantizes_only_the_layers_of_the_language_model(directory: Path) -> None:
    loaded = load_checkpoint(settings_for(directory, model__weights="torchao-int8").model)
    assert loaded.model_id.endswith("-int8-torchao")
    quantized = {
        name
        for name, weight in loaded.model.named_parameters()
        if type(weight) is not torch.nn.Parameter
    }
    layers = {
        name
        for name, _ in loaded.model.named_parameters()
        if name.startswith("model.language_model.layers") and name.endswith("_proj.weight")
    }
    assert quantized == layers


def test_experts_are_not_quantized_while_they_are_loaded(tmp_path: Path) -> None:
    experts = write_checkpoint(tmp_path, layers=1, family="qwen3_vl_moe")
    with pytest.raises(CheckpointError, match=r"'int4': the experts .* stored quantized"):
        load_checkpoint(settings_for(experts, model__weights="int4").model)


@needs("torchao")
def test_a_format_that_torchao_has_on_a_gpu_only_is_refused_on_a_cpu() -> None:
    with pytest.raises(CheckpointError, match=r"'torchao-int4': no library works on cpu"):
        choose_quantization("torchao-int4", CPU, torch.float32)


LAYERS = "model.language_model.layers"


def rewrite(
    directory: Path, out: Path, method: dict[str, Any], change: Callable[[str, torch.Tensor], Any]
) -> Path:
    """Copy a checkpoint with quantized layers; `change` gives the tensors of one weight."""
    out.mkdir()
    for file in directory.iterdir():
        if file.name != "model.safetensors":
            (out / file.name).write_bytes(file.read_bytes())
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(directory / "model.safetensors").items():
        is_layer = "layers." in name and name.endswith("_proj.weight") and "visual" not in name
        tensors |= change(name, weight) if is_layer else {name: weight}
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"quantization_config": method}))
    return out


@pytest.mark.parametrize(
    ("method", "library"),
    [("awq", "gptqmodel"), ("gptq", "optimum"), ("compressed-tensors", "compressed_tensors")],
)
def test_a_stored_format_without_its_library_is_refused_by_name(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    stored = rewrite(
        directory,
        tmp_path / "stored",
        {"quant_method": method, "bits": 4},
        lambda name, weight: {name: weight},
    )
    with pytest.raises(
        CheckpointError,
        match=rf"{method}.* needs {library}.*pip install {library.replace('_', '-')}'",
    ):
        load_checkpoint(settings_for(stored).model)


def to_fp8(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Blocks of 128 x 128 weights with one scale each, as DeepSeek and Qwen store FP8."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows // 128, 128, columns // 128, 128)
    scales = blocks.abs().amax(dim=(1, 3)) / 448.0
    rounded = (blocks / scales[:, None, :, None]).reshape(rows, columns)
    return {name: rounded.to(torch.float8_e4m3fn), f"{name}_scale_inv": scales}


@needs("accelerate")
def test_fp8_weights_are_unpacked_where_the_device_cannot_multiply_them(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head", "visual", "model.visual"],
    }
    stored = rewrite(directory, tmp_path / "fp8", method, to_fp8)
    with caplog.at_level(logging.WARNING, logger="stream_vlm"):
        given = probabilities(stored)
    assert "a CPU cannot multiply" in caplog.text
    expected = probabilities(directory)
    assert given == pytest.approx(expected, abs=0.05)
    assert given != expected


def to_packed_int4(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Eight numbers of 4 bits in one int32 and a scale for 64 columns, as llm-compressor stores."""
    rows, columns = weight.shape
    groups = weight.reshape(rows, columns // 64, 64)
    scales = groups.abs().amax(dim=2) / 7.0
    numbers = (groups / scales[:, :, None]).round().clamp(-8, 7).reshape(rows, columns) + 8
    shifts = 4 * torch.arange(8)
    packed = (numbers.to(torch.int64).reshape(rows, columns // 8, 8) << shifts).sum(dim=2)
    signed = torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)
    stem = name.removesuffix(".weight")
    return {
        f"{stem}.weight_packed": signed,
        f"{stem}.weight_scale": scales,
        f"{stem}.weight_shape": torch.tensor([rows, columns]),
    }


@needs("accelerate", "compressed_tensors")
def test_compressed_tensors_are_read(directory: Path, tmp_path: Path) -> None:
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": 64,
    }
    method = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*visual.*"],
    }
    stored = rewrite(directory, tmp_path / "int4", method, to_packed_int4)
    given, expected = probabilities(stored), probabilities(directory)
    assert given == pytest.approx(expected, abs=0.15)
    assert given != expected
