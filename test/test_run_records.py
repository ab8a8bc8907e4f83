"""The JSON lines that a run writes."""

from __future__ import annotations

import json

from stream_vlm.run_records import TimedEvent, as_line


def test_a_record_is_one_line_of_json_with_its_words_unescaped() -> None:
    line = as_line(TimedEvent("Tür geht\nauf", 1.5, 2.25, 0.875, "front"))
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "Tür" in line
    assert json.loads(line) == {
        "label": "Tür geht\nauf",
        "t_start": 1.5,
        "t_end": 2.25,
        "confidence": 0.875,
        "camera": "front",
    }
