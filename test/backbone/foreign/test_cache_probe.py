"""The probe tells at load whether the cache of a model can be kept."""

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest
from foreign_fixtures import ARCHITECTURES, KEPT, write_foreign
from model_fixtures import settings_for

from stream_vlm.backbone.foreign.cache_probe import why_not_kept
from stream_vlm.backbone.foreign.chat_pieces import ChatPieces, split_chat
from stream_vlm.backbone.foreign.loader import ForeignCheckpoint, load_foreign


def loaded(directory: Path, **settings: Any) -> tuple[ForeignCheckpoint, ChatPieces]:
    checkpoint = load_foreign(settings_for(directory, **settings).model)
    return checkpoint, split_chat(checkpoint.processor, checkpoint.system)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_models_that_read_forward_keep_their_cache(
    tmp_path: Path, architecture: str, dtype: str
) -> None:
    reason = why_not_kept(*loaded(write_foreign(tmp_path, architecture), model__dtype=dtype))
    assert reason == "" if architecture in KEPT else "both directions" in reason


@pytest.mark.skipif(
    importlib.util.find_spec("num2words") is None, reason="num2words is not installed"
)
def test_smolvlm_keeps_its_cache_without_a_processor_of_videos(tmp_path: Path) -> None:
    assert why_not_kept(*loaded(write_foreign(tmp_path, "smolvlm"))) == ""


def test_a_cache_that_forgets_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, pieces = loaded(write_foreign(tmp_path))
    forward = checkpoint.model.forward

    def forgetting(input_ids: Any, past_key_values: Any = None, **more: Any) -> Any:
        more["attention_mask"] = more["attention_mask"][:, -input_ids.shape[1] :]
        return forward(input_ids=input_ids, past_key_values=None, **more)

    monkeypatch.setattr(checkpoint.model, "forward", forgetting)
    checkpoint.model.forward.__signature__ = inspect.signature(forward)
    assert "changes the logits by" in why_not_kept(checkpoint, pieces)


def test_a_model_that_cannot_append_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, pieces = loaded(write_foreign(tmp_path))

    def failing(**_: Any) -> Any:
        raise NotImplementedError("one prefill only")

    monkeypatch.setattr(checkpoint.model, "forward", failing)
    assert "NotImplementedError: one prefill only" in why_not_kept(checkpoint, pieces)
