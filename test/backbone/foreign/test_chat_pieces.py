"""Chat templates are split into the texts around pictures, questions and replies."""

from types import SimpleNamespace
from typing import Any

import pytest
from foreign_fixtures import CHAT, NO_SYSTEM_CHAT, PICTURES_FIRST_CHAT, tokenizer_of

from stream_vlm.backbone.foreign.chat_pieces import CannotSplit, ChatPieces, split_chat

QWEN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is"
    " string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if"
    " part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{"
    " part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if"
    " add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not"
    " enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As Qwen and InternVL write it, with a model that would think first."""
GEMMA = (
    "<bos>{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'][0]['text']"
    " + '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest ="
    " messages %}{% endif %}{% for message in rest %}{% if message['role'] == 'assistant' %}{% set"
    " role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}<start_of_turn>{{ role"
    " }}\n{{ first if loop.first else '' }}{% if message['content'] is string %}{{"
    " message['content'] | trim }}{% else %}{% for part in message['content'] %}{% if part['type']"
    " == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{%"
    " endif %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{%"
    " endif %}"
)
"""As Gemma 3 writes it: the system prompt is before the first words of the user."""
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper()"
    " + ': ' }}{% endif %}{% for part in message['content'] if part['type'] == 'image'"
    " %}<image>\n{% endfor %}{% if message['role'] != 'assistant' %}{% for part in"
    " message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% else"
    " %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' '"
    " }}{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""As LLaVA-1.5 writes it: all pictures come before the words."""
MISTRAL = (
    "<s>{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'][0]['text']"
    " %}{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{%"
    " endif %}{% for message in rest %}{% if message['role'] == 'user' %}[INST]{% if loop.last and"
    " system %}{{ system }}\n\n{% endif %}{% for part in message['content'] %}{% if part['type'] =="
    " 'image' %}[IMG]{% else %}{{ part['text'] }}{% endif %}{% endfor %}[/INST]{% else %}{{"
    " message['content'][0]['text'] }}</s>{% endif %}{% endfor %}"
)
"""As Pixtral writes it: the system prompt moves to the last words of the user."""


def split(template: str) -> ChatPieces:
    tokenizer = tokenizer_of(("word",), template)
    processor: Any = SimpleNamespace(
        chat_template=template, apply_chat_template=tokenizer.apply_chat_template
    )
    return split_chat(processor, "Watch.")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            CHAT,
            (
                "<turn>system Watch. <turn>user ",
                " <image> ",
                " <turn>assistant ",
                "<turn>assistant ",
                " <turn>user ",
            ),
        ),
        (
            NO_SYSTEM_CHAT,
            (
                "<turn>user Watch.\n",
                " <image> ",
                " <turn>assistant ",
                "<turn>assistant ",
                " <turn>user ",
            ),
        ),
        (
            QWEN,
            (
                "<|im_start|>system\nWatch.<|im_end|>\n<|im_start|>user\n",
                "<|vision_start|><|image_pad|><|vision_end|>",
                "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
                "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
                "<|im_end|>\n<|im_start|>user\n",
            ),
        ),
        (
            GEMMA,
            (
                "<bos><start_of_turn>user\nWatch.\n\n",
                "<start_of_image>",
                "<end_of_turn>\n<start_of_turn>model\n",
                "<end_of_turn>\n<start_of_turn>model\n",
                "<end_of_turn>\n<start_of_turn>user\n",
            ),
        ),
        (LLAVA, ("Watch. USER: ", "<image>\n", " ASSISTANT:", " ASSISTANT:", " USER: ")),
        (MISTRAL, ("<s>[INST]Watch.\n", "[IMG]", "[/INST]", "[/INST]", "</s>[INST]")),
    ],
    ids=["parts", "no system role", "qwen", "gemma", "llava", "mistral"],
)
def test_the_pieces_of_a_template_are_found(template: str, expected: tuple[str, ...]) -> None:
    assert split(template) == ChatPieces(*expected)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (PICTURES_FIRST_CHAT, "writes a part of the chat"),
        (CHAT.replace("<image>", ""), "no place for a picture"),
        (CHAT.replace("{{ message['role'] }}", "{{ messages | length }}"), "in another way"),
    ],
    ids=["one text only", "no picture", "changes with the length"],
)
def test_a_template_that_cannot_grow_is_refused_with_the_reason(template: str, reason: str) -> None:
    with pytest.raises(CannotSplit, match=f"chat template cannot be split.*{reason}"):
        split(template)
