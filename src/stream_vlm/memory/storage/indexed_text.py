"""The text that the full-text index reads: one token for each word, in every script.

Chinese, Japanese, Thai, Lao, Khmer and Burmese put no space between words, and Korean joins
particles to them. The index would take such a run of letters as one word. A run is therefore
written as its single letters followed by its pairs of neighbours: 红球滚 as "红 球 滚 红球 球滚".
One letter and two letters are then one token, and a longer word is a phrase of pairs, which is
found exactly where the letters stand side by side.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai scripts
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003ffff"
    "\u3041-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001b000-\U0001b16f"  # kana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\ua000-\ua4cf"  # Yi
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_WITH_SIGNS = re.compile(
    "[^\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3029\u3041-\u3096\u309d-\ua4cf\uac00-\ud7ff"
    "\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""Letters of a script with vowel signs; the others are one character each."""

_IGNORED = re.compile("[\u200c\u200d\u2060\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Joiners and variants of a glyph: the word is the same with and without them."""


def indexed_text(text: str) -> str | None:
    """Return what the full-text index reads of `text`, or None if that is `text` itself.

    Characters of another width and letters with separate accents get their common form.
    """
    if text.isascii():
        return None
    plain = normalized(text)
    if plain == text and not _RUN.search(plain):
        return None
    return _RUN.sub(lambda run: f" {_tokens_of(run[0])} ", plain)


def normalized(text: str) -> str:
    """Return `text` with one form for equal characters, without the case that the index ignores."""
    plain = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    # The index ignores case but knows no letter that becomes two, such as the German sharp s.
    return plain if plain.casefold() == plain.lower() else plain.casefold()


def words_of(text: str) -> list[str]:
    """Return the words of `text` in lower case; a run of unspaced letters is one word."""
    words: list[str] = []
    plain = normalized(text).casefold()
    at = 0
    for run in _RUN.finditer(plain):
        words += _spaced_words(plain[at : run.start()])
        words.append(run[0])
        at = run.end()
    words += _spaced_words(plain[at:])
    return [word for word in words if any(map(str.isalnum, word))]


def is_unspaced(word: str) -> bool:
    """Return whether `word` is of a script that puts no space between words."""
    return _RUN.fullmatch(word) is not None


def index_phrase(word: str) -> str:
    """Return the tokens of the index, separated by spaces, that stand side by side for `word`."""
    if not is_unspaced(word):
        return word
    return " ".join(pairs_of(word) or _letters_of(word))


def pairs_of(word: str) -> list[str]:
    """Return the pairs of neighbouring letters of an unspaced word; none for a single letter."""
    return _pairs(_letters_of(word))


def _tokens_of(run: str) -> str:
    letters = _letters_of(run)
    return " ".join([*letters, *_pairs(letters)])


def _pairs(letters: list[str]) -> list[str]:
    return [first + second for first, second in pairwise(letters)]


def _letters_of(run: str) -> list[str]:
    """Return the letters of `run`, each with the vowel signs and tone marks that stand on it."""
    if not _WITH_SIGNS.search(run):
        return list(run)
    letters: list[str] = []
    for one in run:
        if letters and unicodedata.category(one)[0] == "M":
            letters[-1] += one
        else:
            letters.append(one)
    return letters


def _spaced_words(text: str) -> list[str]:
    if text.isascii():
        return re.findall(r"[^\W_]+", text)
    word, words = "", []
    for one in f"{text} ":
        if unicodedata.category(one)[0] in "LNM":
            word += one
        elif word:
            words.append(word)
            word = ""
    return words
