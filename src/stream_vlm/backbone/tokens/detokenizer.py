"""From token ids to text, in whole words."""

from __future__ import annotations

import re
from collections.abc import Callable

from transformers import PreTrainedTokenizerBase


def without_control(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A user's `text` without the control tokens of `tokenizer`."""
    for token in tokenizer.get_added_vocab():
        text = text.replace(token, " ")
    return " ".join(text.split())


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, ...]:
    """The words of `text` that `tokenizer` has no token for, without duplicates.

    A tokenizer that can spell every word gives none. Any thread may call this.
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
"""Tokens that end inside a character of several bytes decode to this character."""

_WITHOUT_SPACES = re.compile(
    "[\u3001-\u303e\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""A Chinese or Japanese character or full stop.

These scripts have no spaces between words, so each character counts as a whole word. Thai, Lao,
Khmer and Burmese combine letters, so there a word ends at the space after a phrase.
"""


class WordStream:
    """Collects generated ids and returns the text so far in whole words.

    In Chinese and Japanese, which have no spaces, it returns whole characters.

    Args:
        tokenizer: the tokenizer of the ids.
        clean: takes what is not spoken out of a text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, clean: Callable[[str], str] = str.strip
    ) -> None:
        self._tokenizer, self._clean = tokenizer, clean
        self._ids: list[int] = []

    def push(self, token_id: int) -> str:
        """Add one id and return the whole words so far.

        The last word is left out until something follows it.
        """
        self._ids.append(token_id)
        return self._without_last_word(self._text())

    @property
    def text(self) -> str:
        """The text so far; its last word may be incomplete."""
        return self._text()

    def finish(self, complete: bool) -> str:
        """Return the final text.

        Args:
            complete: whether the model ended the text. If not, the last word may be cut and is left
                out. A last word that ends inside a character is always left out.
        """
        text = self._text()
        return (
            text
            if complete and not text.endswith(HALF_A_CHARACTER)
            else self._without_last_word(text)
        )

    def _text(self) -> str:
        return self._clean(str(self._tokenizer.decode(self._ids, skip_special_tokens=True))).strip()

    @staticmethod
    def _without_last_word(text: str) -> str:
        spaced = max(text.rfind(" "), 0)
        whole = [match.end() for match in _WITHOUT_SPACES.finditer(text, spaced)]
        return text[: whole[-1]] if whole else text[:spaced]
