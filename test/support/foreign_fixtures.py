"""Real checkpoints with random weights, of architectures that do not run with the slot cache."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from model_fixtures import settings_for
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    GotOcr2ImageProcessorPil,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessorPil,
    Idefics2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5Tokenizer,
    SiglipImageProcessorPil,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

from stream_vlm.backbone import KeepingModel, RecomputingModel, load_model
from stream_vlm.model_protocol import Judgement, ModelStream, Outcome, Turn
from stream_vlm.types import Decision, Frame, Instruction, Query

SPECIAL = (
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "<image>",
    "<turn>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    "<start_of_image>",
    "<end_of_image>",
    "<video>",
)
STATE_WORDS = ("Silence", "Standby", "Response")
WORDS = (
    "Yes",
    "No",
    "is",
    "the",
    "door",
    "open",
    "?",
    "yes",
    "no",
    "person",
    "in",
    "red",
    "enters",
    "from",
    "left",
    "user",
    "assistant",
    "system",
    "Asked",
    "at",
    "Watch",
    "for",
    "Judge",
    "newest",
    "reported",
    "opens",
)

CHAT = (
    "{% for message in messages %}<turn>{{ message['role'] }} {% for part in message['content']"
    " %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %} {% endfor"
    " %}{% endfor %}{% if add_generation_prompt %}<turn>assistant {% endif %}"
)
NO_SYSTEM_CHAT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHAT
)
PICTURES_FIRST_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{% for part in"
    " message['content'] if part['type'] == 'image' %}<image>{% endfor %}{{ (message['content'] |"
    " selectattr('type', 'equalto', 'text') | first)['text'] }}{% endif %}{% endfor"
    " %}<turn>assistant "
)


NAMES: dict[str, Any] = {
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "extra_special_tokens": {
        "image_token": "<image>",
        "image_boundary_token": "<fake_token_around_image>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "start_image_token": "<start_of_image>",
        "end_image_token": "<end_of_image>",
        "context_image_token": "<image>",
        "video_token": "<video>",
        "vision_bos_token": "<start_of_image>",
        "vision_eos_token": "<end_of_image>",
    },
}
"""What processors call the control tokens."""


def tokenizer_of(words: Sequence[str], chat: str | None = CHAT) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **NAMES,
        chat_template=chat,
        clean_up_tokenization_spaces=False,
    )


def byte_tokenizer(chat: str | None = CHAT) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, with one token for each of the words that a reply begins with."""
    tokens = [*SPECIAL, *pre_tokenizers.ByteLevel.alphabet()]
    merges: list[Any] = []
    words = (*STATE_WORDS, "Yes", "No")
    for written in (*(f"\u0120{word}" for word in words), *words):
        merges += [(written[:end], written[end]) for end in range(1, len(written))]
    tokens += [first + last for first, last in merges]
    tokenizer = Qwen3_5Tokenizer(
        {token: index for index, token in enumerate(dict.fromkeys(tokens))},
        list(dict.fromkeys(merges)),
        **NAMES,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = chat
    return tokenizer


def _text_config(vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "tie_word_embeddings": False,
    } | more


VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
}


def _llava(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """LLaVA: the middle square of each picture, in one size."""
    config: Any = LlavaConfig(
        vision_config=VISION
        | {
            "model_type": "clip_vision_model",
            "image_size": 32,
            "projection_dim": 32,
        },
        text_config=_text_config(len(tokenizer), model_type="llama"),
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_select_strategy="default",
    )
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    return LlavaForConditionalGeneration(config), processor


def _idefics2(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """Idefics2: pictures keep their aspect ratio and, within limits, their size."""
    config: Any = Idefics2Config(
        vision_config=VISION | {"image_size": 320, "patch_size": 32},
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 4,
            "resampler_head_dim": 8,
            "hidden_size": 32,
        }
        | {"num_key_value_heads": 2},
        text_config=_text_config(len(tokenizer), model_type="mistral"),
        image_token_id=SPECIAL.index("<image>"),
    )
    pictures = Idefics2ImageProcessorPil(
        size={"shortest_edge": 32, "longest_edge": 320}, do_image_splitting=False
    )
    processor = Idefics2Processor(
        pictures, tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template
    )
    return Idefics2ForConditionalGeneration(config), processor


def _idefics3(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """Idefics3: one tile for each picture, resampled by a connector."""
    config: Any = Idefics3Config(
        vision_config=VISION | {"image_size": 32},
        text_config=_text_config(len(tokenizer), model_type="llama"),
        image_token_id=SPECIAL.index("<image>"),
        scale_factor=2,
    )
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    processor = Idefics3Processor(
        pictures, tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template
    )
    return Idefics3ForConditionalGeneration(config), processor


def _paligemma(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """PaliGemma: bidirectional attention over the whole chat."""
    config: Any = PaliGemmaConfig(
        vision_config=VISION
        | {
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "vision_use_head": False,
            "num_image_tokens": 16,
        },
        text_config=_text_config(len(tokenizer) + 8, model_type="gemma"),
        image_token_index=SPECIAL.index("<image>"),
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    pictures: Any = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    pictures.image_seq_length = 16
    processor = PaliGemmaProcessor(pictures, tokenizer, chat_template=tokenizer.chat_template)
    return PaliGemmaForConditionalGeneration(config), processor


def _gemma3(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """Gemma 3: attention in both directions within a picture, and a sliding window of 24 tokens."""
    config: Any = Gemma3Config(
        vision_config=VISION
        | {"model_type": "siglip_vision_model", "image_size": 32, "vision_use_head": False},
        text_config=_text_config(
            len(tokenizer),
            model_type="gemma3_text",
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=8,
        ),
        mm_tokens_per_image=4,
        image_token_index=SPECIAL.index("<image>"),
        boi_token_index=SPECIAL.index("<start_of_image>"),
        eoi_token_index=SPECIAL.index("<end_of_image>"),
        tie_word_embeddings=False,
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(
        pictures,
        tokenizer,
        image_seq_length=4,
        chat_template=str(tokenizer.chat_template).replace("<image>", "<start_of_image>"),
    )
    return Gemma3ForConditionalGeneration(config), processor


class StillPictures:
    """The files of a processor of `kind` whose processor of videos would need torchvision."""

    def __init__(
        self, kind: str, pictures: Any, tokenizer: PreTrainedTokenizerFast, **options: Any
    ) -> None:
        self._pictures, self._tokenizer = pictures, tokenizer
        self._options = {"processor_class": kind} | options

    def save_pretrained(self, directory: Path) -> None:
        """Write the files."""
        self._pictures.save_pretrained(directory)
        self._tokenizer.save_pretrained(directory)
        (directory / "processor_config.json").write_text(json.dumps(self._options))


def _internvl(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """InternVL: a quarter of the patches as tokens; its processor would cut pictures into tiles."""
    config: Any = InternVLConfig(
        vision_config=VISION
        | {"image_size": [32, 32], "patch_size": [8, 8], "model_type": "internvl_vision"},
        text_config=_text_config(len(tokenizer), model_type="qwen2"),
        image_token_id=SPECIAL.index("<image>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    pictures = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32})
    return InternVLForConditionalGeneration(config), StillPictures(
        "InternVLProcessor", pictures, tokenizer, image_seq_length=4
    )


def _smolvlm(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """SmolVLM: as Idefics3, with a processor that reads settings of videos."""
    config: Any = SmolVLMConfig(
        vision_config=VISION | {"image_size": 32},
        text_config=_text_config(len(tokenizer), model_type="llama"),
        image_token_id=SPECIAL.index("<image>"),
        scale_factor=2,
    )
    pictures = SmolVLMImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    return SmolVLMForConditionalGeneration(config), StillPictures(
        "SmolVLMProcessor", pictures, tokenizer, image_seq_len=4
    )


def _qwen3_5(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """Qwen3.5: three layers of linear attention for one of full attention, and three axes."""
    config: Any = Qwen3_5Config(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 16,
            "out_hidden_size": 32,
        },
        text_config=_text_config(
            len(tokenizer),
            model_type="qwen3_5_text",
            num_hidden_layers=4,
            max_position_embeddings=8192,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "partial_rotary_factor": 1.0,
            },
        ),
        image_token_id=SPECIAL.index("<image>"),
        video_token_id=SPECIAL.index("<video>"),
        vision_start_token_id=SPECIAL.index("<start_of_image>"),
        vision_end_token_id=SPECIAL.index("<end_of_image>"),
        tie_word_embeddings=False,
    )
    pictures = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}, patch_size=8, merge_size=2
    )
    return Qwen3_5ForConditionalGeneration(config), StillPictures(
        "Qwen3VLProcessor", pictures, tokenizer
    )


ARCHITECTURES: dict[str, Callable[[PreTrainedTokenizerFast], tuple[Any, Any]]] = {
    "llava": _llava,
    "idefics2": _idefics2,
    "idefics3": _idefics3,
    "paligemma": _paligemma,
    "gemma3": _gemma3,
    "internvl": _internvl,
    "qwen3_5": _qwen3_5,
}
WITH_NUM2WORDS = {"smolvlm": _smolvlm}
"""Architectures whose processor needs the library num2words."""
KEPT = ("llava", "idefics2", "idefics3", "gemma3", "internvl", "qwen3_5")
"""The architectures whose cache can be kept."""


def write_foreign(
    directory: Path,
    architecture: str = "llava",
    words: Sequence[str] = (*STATE_WORDS, *WORDS),
    chat: str | None = CHAT,
) -> Path:
    """Write a checkpoint of `architecture` with random weights that prefer words."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(chat) if architecture == "qwen3_5" else tokenizer_of(words, chat)
    model, processor = (ARCHITECTURES | WITH_NUM2WORDS)[architecture](tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Initial weights are so small that pictures would not change the logits. Exponents of
            # a decay stay: three times as large they would lose all digits in fp32.
            if not name.endswith(("A_log", "dt_bias")):
                parameter.mul_(3.0)
        heads = model.get_output_embeddings().weight
        heads[: len(SPECIAL)] *= 0.1
        if architecture == "qwen3_5":
            # Single bytes and beginnings of words are unlikely.
            whole = [tokenizer.encode(f" {word}")[0] for word in (*STATE_WORDS, "Yes", "No")]
            heads[[index for index in range(len(heads)) if index not in whole]] *= 0.1
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def change_config(path: Path, **values: object) -> None:
    """Overwrite fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


QUESTION = Query("q", "is the door open ?", 0)


def load(directory: Path, **settings: Any) -> KeepingModel | RecomputingModel:
    """Load the model in `directory`; `settings` are settings, with __ for the dot."""
    model = load_model(settings_for(directory, **settings))
    assert isinstance(model, KeepingModel | RecomputingModel)
    return model


def judgement(number: int = 0, text: str = "the door opens", **more: Any) -> Judgement:
    """A judgement about the instruction `text`."""
    return Judgement(Instruction(f"i{number}", text), **more)


def take(
    model: KeepingModel | RecomputingModel, stream: ModelStream, frame: Frame, **more: Any
) -> Outcome:
    """The outcome of one turn, which must not be an error; `more` are arguments of `Turn`."""
    (outcome,) = model.step([Turn(stream, frame, **more)])
    assert isinstance(outcome, Outcome), outcome
    return outcome


def judged(
    model: KeepingModel | RecomputingModel, stream: ModelStream, frame: Frame, **more: Any
) -> Decision:
    """The decision about `judgement()` at one turn; `more` are arguments of `Judgement`."""
    return take(model, stream, frame, judgements=(judgement(**more),)).judged["i0"]


def watch(
    model: KeepingModel | RecomputingModel,
    stream: ModelStream,
    frames: Sequence[Frame],
    asked_at: int = -1,
) -> list[Outcome]:
    """The outcomes of all `frames`, each with one judgement; a question at number `asked_at`."""
    return [
        take(
            model,
            stream,
            frame,
            judgements=(judgement(),),
            query=QUESTION if index == asked_at else None,
        )
        for index, frame in enumerate(frames)
    ]
