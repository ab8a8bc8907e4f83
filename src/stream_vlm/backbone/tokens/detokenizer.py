"""From token ids to text, never half a word."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase


def without_control(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A user's `text` without anything that `tokenizer` would read as a control token."""
    for token in tokenizer.get_added_vocab():
        text = text.replace(token, " ")
    return " ".join(text.split())


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, ...]:
    """The different words of `text` that `tokenizer` has no token for; none for one that spells
    every word. Any thread may ask.
    """
    spelling = getattr(tokenizer, "backend_tokenizer", None)
    if spelling is None or tokenizer.unk_token_id is None:
        return ()
    encoded = spelling.encode(text, add_special_tokens=False)
    places = (
        place
        for token, place in zip(encoded.ids, encoded.offsets, strict=True)
        if token == tokenizer.unk_token_id
    )
    found = (text[start:end].strip() for start, end in places)
    return tuple(dict.fromkeys(word for word in found if any(map(str.isalnum, word))))


HALF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""What tokens decode to that end inside a character of several bytes."""

_WITHOUT_SPACES = re.compile(
    "[\u3001-\u303e\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""A character of Chinese or Japanese, their full stops included, where nothing tells one word from
the next: whole as soon as it is there. Thai, Lao, Khmer and Burmese, whose letters go on combining,
are taken by the spaces between their phrases.
"""


class WordStream:
    """Collects generated ids and gives back only whole words while they come in; of scripts without
    spaces, whole characters.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []

    def push(self, token_id: int) -> str:
        """Take in one id and return the whole words so far; the newest word is held back until
        something follows it.
        """
        self._ids.append(token_id)
        return self._without_last_word(self._text())

    def finish(self, complete: bool) -> str:
        """The final text; `complete` says that the model ended by itself, otherwise the last word
        may be cut and is left out.

        A word that the model ended inside one of its characters is left out in any case.
        """
        text = self._text()
        return (
            text
            if complete and not text.endswith(HALF_A_CHARACTER)
            else self._without_last_word(text)
        )

    def _text(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True)).strip()

    @staticmethod
    def _without_last_word(text: str) -> str:
        spaced = max(text.rfind(" "), 0)
        whole = [match.end() for match in _WITHOUT_SPACES.finditer(text, spaced)]
        return text[: whole[-1]] if whole else text[:spaced]
