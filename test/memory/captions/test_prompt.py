"""A caption is plain whole sentences, whatever the model writes around them."""

from __future__ import annotations

import pytest

from stream_vlm.memory.captions.prompt import caption_in, caption_task


@pytest.mark.parametrize(
    ("reply", "caption"),
    [
        ("A man stands at a door.", "A man stands at a door."),
        ("  a man stands\nat a door. \n", "A man stands at a door."),
        ("**A man** stands at a *red* `door`.", "A man stands at a red door."),
        ("# Scene\n- A man stands.\n- A dog sits.", "Scene A man stands. A dog sits."),
        ("1. A man stands.\n2. A dog sits.", "A man stands. A dog sits."),
        ("The image shows a man at a door.", "A man at a door."),
        ("This picture depicts that a man stands.", "A man stands."),
        ('"A man stands at a door."', "A man stands at a door."),
        ("<think>what is it?</think>A man stands.", "A man stands."),
        ("A sign says [Exit](https://example.org).", "A sign says Exit."),
        ("A man stands. A dog si", "A man stands."),
        ("A man stands at a door", "A man stands at a door"),
        ("file_name and 2 * 3 stay.", "File_name and 2 * 3 stay."),
        ("一个男人站在门口。", "一个男人站在门口。"),
        ("", ""),
        ("...", ""),
        ("**", ""),
    ],
)
def test_only_the_plain_sentences_of_a_reply_are_kept(reply: str, caption: str) -> None:
    assert caption_in(reply, 80) == caption


def test_a_long_reply_is_cut_after_a_whole_sentence_or_rejected() -> None:
    reply = "A man stands at a door. " + "A dog sits beside him on the floor. " * 5
    assert caption_in(reply, 70) == "A man stands at a door. A dog sits beside him on the floor."
    assert caption_in("a very long sentence " * 10, 70) == ""


def test_the_task_names_the_limit_and_the_language() -> None:
    assert "at most 240 characters" in caption_task(240)
    assert caption_task(240, "German").endswith("Write in German.")
