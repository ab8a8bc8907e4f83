"""Texts are UTF-8, lines end at newlines only, and half characters are found wherever they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_vlm.unicode_text import (
    TextRefused,
    check_text,
    decode,
    half_character,
    json_lines,
    mend,
    parse_json,
    read_json,
    replace_file,
)

NO_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters at which `str.splitlines` splits, but JSON lines do not."""


def test_a_byte_order_mark_at_the_start_is_no_content() -> None:
    assert decode(b"\xef\xbb\xbf[1]") == "[1]"


def test_a_byte_order_mark_within_a_text_stays() -> None:
    assert decode("a\ufeffb".encode()) == "a\ufeffb"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_wide_encodings_are_refused_with_the_remedy(encoding: str) -> None:
    with pytest.raises(ValueError, match="UTF-16 or UTF-32; save it as UTF-8"):
        decode('{"a": 1}'.encode(encoding))


def test_bytes_that_are_no_utf_8_are_named() -> None:
    with pytest.raises(ValueError, match="byte 3 is 0xe9; save it as UTF-8"):
        decode(b"caf\xe9")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_at_newlines_only(end: str) -> None:
    rows = [json.dumps({"text": f"a{mark}b"}, ensure_ascii=False) for mark in "\x85\u2028\u2029"]
    found = list(json_lines(end.join(rows) + end))
    assert [number for number, _ in found] == [1, 2, 3]
    assert [json.loads(line) for _, line in found] == [json.loads(row) for row in rows]


@pytest.mark.parametrize("mark", NO_LINE_ENDS)
def test_no_other_character_ends_a_line(mark: str) -> None:
    assert [line for _, line in json_lines(f"a{mark}b\nc")] == [f"a{mark}b", "c"]


def test_blank_lines_count_but_are_left_out() -> None:
    assert list(json_lines("\n1\n \r\n2")) == [(2, "1"), (4, "2")]


def test_a_mark_before_a_later_line_is_no_content() -> None:
    """Files that were put one after the other have one in the middle."""
    assert list(json_lines("1\n\ufeff2")) == [(1, "1"), (2, "2")]


def test_json_that_is_nested_too_deeply_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("a\ud83d", "the text has"),
        ({"a": [1, {"b": "x\udc00y"}]}, r"a\[1\]\.b has"),
        ({"\ud83d": 1}, "a name has"),
        ({"a": {"\ud83d": 1}}, "a name in a has"),
        (["ok", ["\udfff"]], r"\[1\]\[0\] has"),
    ],
)
def test_half_a_character_is_found_and_its_place_named(value: object, place: str) -> None:
    found = half_character(value)
    assert found.encode("utf-8")  # the message itself can be printed
    with pytest.raises(AssertionError, match=place):
        raise AssertionError(found)


def test_whole_characters_are_no_fault() -> None:
    assert half_character(json.loads('{"a": ["\\ud83d\\ude00", 1, null, true]}')) == ""


def test_a_text_with_half_a_character_is_refused_in_words_that_can_be_printed() -> None:
    with pytest.raises(TextRefused, match="the question") as caught:
        check_text("caf\udce9", "the question")
    assert str(caught.value).encode("ascii")
    assert check_text("café \U0001f600", "the question") == "café \U0001f600"
    assert mend("a\ud83d") == "a\ufffd"


def test_a_file_is_replaced_only_when_all_of_it_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "a\ud83d")
    assert path.read_text() == "before"
    replace_file(path, "é")
    assert path.read_bytes() == "é".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]


def test_a_replaced_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    path, link = tmp_path / "out.json", tmp_path / "link.json"
    path.write_text("before")
    path.chmod(0o600)
    link.symlink_to(path)
    replace_file(link, "after")
    assert link.is_symlink()
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_json_file_with_a_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
