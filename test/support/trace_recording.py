"""Records runs of a one-layer model with transformers alone, in the format of the published traces.

In a model with one layer a key or value depends only on its own token. So a full recomputation of
the kept tokens gives exactly the contents of the cache. The recording therefore needs no cache and
no code of the engine that replays it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from streaming_rule import Rule, Token, positions
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

SPECIAL = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PATCH, MERGE = 14, 2


def write_streaming_vlm_checkpoint(directory: Path, layers: int = 1) -> Path:
    """Write a tiny random Qwen2.5-VL with a byte tokenizer and windowed vision blocks.

    Its weights make the end of a reply likely.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    merges = [(".", "."), ("..", "."), ("Ġ", "...")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    ids = fast.get_vocab()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 6, 6],
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 64,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(3)
    model: Any = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Initial weights are so small that all contexts would give nearly the same logits.
                parameter.mul_(6.0)
        model.lm_head.weight[[ids[token] for token in SPECIAL[1:]]] = 0.0
        model.lm_head.weight[ids["<|im_end|>"]] *= 2.5
    directory.mkdir(parents=True)
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    pictures = {
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": 2,
        "image_mean": MEAN,
        "image_std": DEVIATION,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(pictures))
    return directory


@dataclass
class Run:
    """What to record.

    Attributes:
        name: name of the trace.
        rule: the eviction rule.
        size: (height, width) of the pictures, pixels.
        penalty: repetition penalty.
        previous_text: text given at the start.
        query: the question of the first round.
        rounds: number of rounds.
        limit: the most tokens of a reply.
    """

    name: str
    rule: Rule
    size: tuple[int, int] = (56, 56)
    penalty: float = 1.0
    previous_text: str = "before: a ball"
    query: str = "say what happens"
    rounds: int = 9
    limit: int = 5


@dataclass
class Recorder:
    """Runs a model over one stream and keeps all tokens and their embeddings."""

    checkpoint: Path
    run: Run
    tokens: list[Token] = field(default_factory=list)
    embedded: dict[int, torch.Tensor] = field(default_factory=dict)
    stream_ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.checkpoint, dtype=torch.float32
        ).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.checkpoint)
        self.ids = self.tokenizer.get_vocab()
        height, width = self.run.size
        self.grid = (height // PATCH // MERGE, width // PATCH // MERGE)
        self.frames = np.random.default_rng(7).integers(
            0, 256, (2 * self.run.rounds, height, width, 3), dtype=np.uint8
        )

    @torch.inference_mode()
    def record(self, folder: Path) -> None:
        """Write trace_NAME.json, trace_NAME.npz and the frames."""
        ragged: dict[str, list[Any]] = {
            name: []
            for name in ("kept_src", "new_ids", "input_ids", "gen_ids", "pos_prefill", "pos_all")
        }
        lengths: dict[str, list[int]] = {"kv_len_evicted": [], "kv_len_after": []}
        rows: list[torch.Tensor] = []
        first: list[torch.Tensor] = []
        for number in range(self.run.rounds):
            self.tokens = self.run.rule.evict(self.tokens, number)
            kept = [token.number for token in self.tokens if token.number is not None]
            ragged["kept_src"].append(kept)
            lengths["kv_len_evicted"].append(len(kept))
            self.prompt(number)
            ragged["new_ids"].append(self.feed(self.vision(number)))
            ragged["input_ids"].append([token.token_id for token in self.tokens])
            ragged["pos_prefill"].append(positions(self.tokens))
            said: list[int] = []
            while True:
                logits = self.logits()
                rows.append(logits)
                if not said:
                    first.append(logits)
                said.append(self.choose(logits, said))
                if said[-1] == self.ids["<|im_end|>"] or len(said) == self.run.limit:
                    break
                self.tokens.append(Token(said[-1], "reply", number))
                self.feed()
            ragged["gen_ids"].append(said)
            ragged["pos_all"].append(positions(self.tokens))
            lengths["kv_len_after"].append(len(self.tokens))
            if said[-1] != self.ids["<|im_end|>"]:
                self.tokens.append(Token(said[-1], "reply", number))
            self.tokens.append(Token(self.ids["<|im_end|>"], "assistant", number))
        self.write(folder, ragged, lengths, first, rows)

    def prompt(self, number: int) -> None:
        """Append the tokens of the prompt of round `number`."""
        if number == 0:
            self.text(
                "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>previous"
                " text\n",
                "head",
                -1,
            )
            self.text(self.run.previous_text, "content", -1)
            self.text("<|im_end|>\n", "footer", -1)
        elif self.tokens[-1].token_id != self.tokenizer.encode("\n")[0]:
            self.text("\n", "assistant", number - 1)
        self.text("<|im_start|>user\n", "user open", number)
        self.text(f"Time={number}.0-{number + 1}.0s", "time", number)
        self.text("<|vision_start|>", "vision", number)
        rows, columns = self.grid
        cells = [(row, column) for row in range(rows) for column in range(columns)]
        self.tokens += [
            Token(self.ids["<|video_pad|>"], "vision", number, None, cell, self.grid)
            for cell in cells
        ]
        self.text("<|vision_end|>", "vision", number)
        if number == 0:
            self.text(self.run.query, "query", number)
        self.text("<|im_end|>\n", "user close", number)
        self.text("<|im_start|>assistant\n", "assistant", number)

    def text(self, text: str, role: str, number: int) -> None:
        self.tokens += (
            [Token(token, role, number) for token in self.tokenizer.encode(text)] if text else []
        )

    def vision(self, number: int) -> torch.Tensor:
        """Merged vision tokens of round `number`.

        Patches are cut with plain loops, in the order of Qwen's processor.
        """
        mean, deviation = np.array(MEAN, np.float32), np.array(DEVIATION, np.float32)
        pictures: NDArray[np.float32] = (
            self.frames[2 * number : 2 * number + 2].astype(np.float32) / 255.0 - mean
        ) / deviation
        rows, columns = self.grid
        patches = []
        for row in range(rows):
            for column in range(columns):
                for down in range(MERGE):
                    for right in range(MERGE):
                        y, x = (row * MERGE + down) * PATCH, (column * MERGE + right) * PATCH
                        patches.append(
                            pictures[:, y : y + PATCH, x : x + PATCH]
                            .transpose(3, 0, 1, 2)
                            .reshape(-1)
                        )
        grid = torch.tensor([[1, rows * MERGE, columns * MERGE]])
        output: torch.Tensor = self.model.model.visual(
            torch.from_numpy(np.stack(patches)).float(), grid_thw=grid
        ).pooler_output
        return output

    def feed(self, vision: torch.Tensor | None = None) -> list[int]:
        """Number and embed all pending tokens and return their ids."""
        fed: list[int] = []
        pictures = iter(vision if vision is not None else torch.zeros(0))
        for place, token in enumerate(self.tokens):
            if token.number is None:
                number = len(self.stream_ids)
                self.tokens[place] = replace(token, number=number)
                table = self.model.model.language_model.embed_tokens
                self.embedded[number] = (
                    next(pictures)
                    if token.cell is not None
                    else table(torch.tensor(token.token_id))
                )
                self.stream_ids.append(token.token_id)
                fed.append(token.token_id)
        return fed

    def logits(self) -> torch.Tensor:
        """Logits after the last token, from a full recomputation of the kept tokens."""
        embeddings = torch.stack(
            [self.embedded[token.number] for token in self.tokens if token.number is not None]
        )
        where = torch.tensor(positions(self.tokens)).T[:, None]
        hidden = self.model.model.language_model(
            inputs_embeds=embeddings[None], position_ids=where, use_cache=False
        ).last_hidden_state
        output: torch.Tensor = self.model.lm_head(hidden)[0, -1]
        return output

    def choose(self, logits: torch.Tensor, said: list[int]) -> int:
        """The best token, with the repetition penalty on all tokens of the context."""
        scores = logits.clone()
        for token in {token.token_id for token in self.tokens} | set(said):
            scores[token] = (
                scores[token] / self.run.penalty
                if scores[token] > 0
                else scores[token] * self.run.penalty
            )
        return int(scores.argmax())

    def write(
        self,
        folder: Path,
        ragged: dict[str, list[Any]],
        lengths: dict[str, list[int]],
        first: list[torch.Tensor],
        rows: list[torch.Tensor],
    ) -> None:
        run, arrays = self.run, dict[str, Any]()
        for name, parts in ragged.items():
            shaped = [
                (
                    np.array(part, dtype=np.int32).T
                    if name.startswith("pos")
                    else np.array(part, dtype=np.int32)
                )
                for part in parts
            ]
            arrays[name] = np.concatenate(shaped, axis=-1)
            arrays[f"{name}_off"] = np.cumsum([0, *(part.shape[-1] for part in shaped)])
        rows_columns = [1, self.grid[0] * MERGE, self.grid[1] * MERGE]
        arrays |= {name: np.array(values)[:, None] for name, values in lengths.items()}
        arrays |= {
            "logits_first": torch.stack(first).numpy(),
            "logits_all": torch.stack(rows).numpy(),
        }
        arrays |= {
            "grid_thw": np.array([rows_columns] * run.rounds),
            "stream_ids": np.array(self.stream_ids),
        }
        arrays["final_kept_src"] = np.array(
            [token.number for token in self.tokens if token.number is not None]
        )
        folder.mkdir(parents=True, exist_ok=True)
        frames = f"frames_{run.name}.npz"
        np.savez(folder / frames, frames=self.frames)
        np.savez(folder / f"trace_{run.name}.npz", **arrays)
        settings = {
            "rounds": run.rounds,
            "window_size": run.rule.vision,
            "text_round": run.rule.text,
            "text_sink": run.rule.sink,
            "text_sliding_window": run.rule.window,
            "fps": 2,
            "max_new_tokens": run.limit,
            "repetition_penalty": run.penalty,
            "previous_text": run.previous_text,
            "query": run.query,
            "frames": frames,
            "special_ids": {token: self.ids[token] for token in SPECIAL},
        }
        (folder / f"trace_{run.name}.json").write_text(json.dumps(settings))
