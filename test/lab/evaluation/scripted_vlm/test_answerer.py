"""A scripted model answers from what its request shows, with the mistakes that its name says."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from scripted_requests import (
    LENGTH_S,
    SEED,
    an_event,
    frames,
    request,
    script,
    text,
    words_of,
)

from stream_vlm.config.instruction_settings import DEFAULT_INSTRUCTIONS
from stream_vlm.context.instructions import (
    LABELS,
    judge_prompt,
    verify_prompt,
)
from stream_vlm.types import State
from stream_vlm_lab.evaluation.scripted_vlm import sight
from stream_vlm_lab.evaluation.scripted_vlm.answerer import ScriptedVlm, token_id
from stream_vlm_lab.evaluation.scripted_vlm.meanings import caption_in
from stream_vlm_lab.evaluation.scripted_vlm.picture_marks import PictureSource
from stream_vlm_lab.evaluation.scripted_vlm.quirks import parse_quirks
from stream_vlm_lab.evaluation.scripted_vlm.request_reader import BadRequest
from stream_vlm_lab.evaluation.scripted_vlm.sentences import as_sentence

PEOPLE, THINGS, DANGER = DEFAULT_INSTRUCTIONS
ALL_TIMES = [t / 2 for t in range(int(LENGTH_S * 2))]


def model(settings: str = "") -> ScriptedVlm:
    return ScriptedVlm(parse_quirks(f"scripted:paraphrase=0,{settings}"))


def judged(
    vlm: ScriptedVlm, times: list[float], instruction: str, reported: str = "", at_s: float = 0.0
) -> str:
    question = text(judge_prompt(instruction, reported, at_s))
    return words_of(vlm.chat(request(*frames(times), question)))


def state_of(reply: str) -> str:
    return reply.partition(":")[0]


def ticks(seeds: int = 8) -> Iterator[tuple[int, list[float]]]:
    """Rooms, and the times of the last six pictures at each second of them."""
    for seed in range(SEED, SEED + seeds):
        for newest in range(6, int(LENGTH_S)):
            yield seed, [float(newest - back) for back in reversed(range(6))]


def replies(settings: str, instruction: str) -> list[str]:
    vlm = model(settings)
    question = text(judge_prompt(instruction))
    return [words_of(vlm.chat(request(*frames(times, seed), question))) for seed, times in ticks()]


def test_an_event_is_reported_when_a_picture_shows_its_end_and_not_before() -> None:
    event = an_event("enters")
    before = [event.t_start - 1.0, event.t_end - 0.1]
    assert state_of(judged(model("standby=1"), before, PEOPLE)) == "Standby"
    after = [*before, event.t_end + 0.4]
    assert judged(model(), after, PEOPLE) == f"Response: {as_sentence(event.label)}"


def test_an_event_is_no_news_to_pictures_that_all_come_after_it() -> None:
    event = an_event("enters")
    later = [event.t_end + 0.2, event.t_end + 0.4]
    assert event.label not in judged(model(), later, PEOPLE).lower()


def test_each_instruction_gets_the_answer_to_its_own_words() -> None:
    event = an_event("enters")
    times = [event.t_start - 1.0, event.t_end + 0.4]
    assert [state_of(judged(model(), times, words)) for words in DEFAULT_INSTRUCTIONS] == [
        "Response",
        "Silence",
        "Silence",
    ]


def test_no_answer_depends_on_what_happens_after_the_newest_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same requests, once with the whole script and once with a script that ends there."""
    settings = "noise=0.2,hold=2,goes_on=0.5"
    questions = [
        text(judge_prompt(PEOPLE)),
        text(judge_prompt(THINGS)),
        text(verify_prompt("A person in red enters from the left.")),
        text("What do you see?"),
    ]
    requests = [
        (times[-1], request(*frames(times), question, logprobs=True, top_logprobs=9))
        for seed, times in ticks(1)
        for question in questions
    ]
    vlm = model(settings)
    with_future = [vlm.chat(asked)["choices"][0] for _, asked in requests]
    without: list[dict[str, Any]] = []
    for now, asked in requests:
        whole = script()
        begun = [event for event in whole.events if event.t_start <= now]
        cut = [event if event.t_end <= now else replace(event, t_end=1e6) for event in begun]
        known = replace(whole, events=tuple(cut), states=whole.states[: len(cut) + 1])
        monkeypatch.setattr(sight, "_script", lambda *names, known=known: known)
        without.append(vlm.chat(asked)["choices"][0])
    assert len({choice["message"]["content"] for choice in with_future}) > 10
    assert with_future == without


def test_the_same_event_is_reported_at_every_picture_unless_the_question_tells_of_it() -> None:
    event = an_event("enters")
    first = math.ceil(event.t_end)
    times = [float(first - 5), float(first - 1), float(first)]
    told, untold = [], []
    for later in (1.0, 2.0):
        times = [*times, first + later]
        untold.append(judged(model("goes_on=0"), times, PEOPLE))
        told.append(
            judged(model("goes_on=0"), times, PEOPLE, as_sentence(event.label), float(first))
        )
    assert untold == [f"Response: {as_sentence(event.label)}"] * 2
    assert told == ["Silence"] * 2


def test_a_model_that_ignores_what_it_reported_reports_it_again() -> None:
    event = an_event("enters")
    first = math.ceil(event.t_end)
    times = [float(first - 5), float(first), first + 1.0]
    again = judged(model("ignore=1"), times, PEOPLE, as_sentence(event.label), float(first))
    assert again == f"Response: {as_sentence(event.label)}"


def test_a_share_of_events_is_missed_in_single_pictures() -> None:
    seen, noisy = replies("", PEOPLE), replies("miss=0.3", PEOPLE)
    reported = [index for index, words in enumerate(seen) if words.startswith("Response")]
    assert len(reported) > 50
    missed = sum(not noisy[index].startswith("Response") for index in reported)
    assert missed / len(reported) == pytest.approx(0.3, abs=0.12)
    assert all(noisy[i] == seen[i] for i in range(len(seen)) if i not in reported)


def test_a_share_of_pictures_gets_a_false_alarm_that_fits_the_instruction() -> None:
    seen, noisy = replies("", THINGS), replies("false_alarm=0.2", THINGS)
    quiet = [index for index, words in enumerate(seen) if not words.startswith("Response")]
    alarms = [noisy[index] for index in quiet if noisy[index].startswith("Response")]
    assert len(alarms) / len(quiet) == pytest.approx(0.2, abs=0.05)
    assert len(set(alarms)) > 10
    assert not any("person in" in words or "ball rolls" in words for words in alarms)
    assert "Response" in {state_of(words) for words in replies("false_alarm=0.2", DANGER)}


def test_draws_that_are_held_give_the_same_false_alarm_for_that_long() -> None:
    words = replies("false_alarm=0.2,hold=5", DANGER)
    apart = replies("false_alarm=0.2", DANGER)

    def runs(said: list[str]) -> float:
        alarms = [index for index, one in enumerate(said) if one.startswith("Response")]
        follows = sum(said[index - 1] == said[index] for index in alarms if index)
        return follows / len(alarms)

    assert runs(words) > 0.6 > 0.3 > runs(apart)


def test_a_late_event_is_reported_between_one_and_three_seconds_late() -> None:
    event = an_event("enters")
    early = [event.t_start - 1.0, event.t_end + 0.9]
    assert state_of(judged(model("late=1"), early, PEOPLE)) != "Response"
    assert state_of(judged(model("late=1"), [*early, event.t_end + 3.1], PEOPLE)) == "Response"


def test_the_second_look_finds_the_dialled_share_of_true_and_false_reports() -> None:
    vlm = model("verify=0.8")
    right: Counter[bool] = Counter()
    asked: Counter[bool] = Counter()
    for seed, times in ticks():
        shown = sight.look_at([PictureSource(seed, 60_000, round(t * 1000)) for t in times])
        for event in shown.complete:
            for sentence, true in ((as_sentence(event.label), True), ("The cup burns.", False)):
                reply = vlm.chat(request(*frames(times, seed), text(verify_prompt(sentence))))
                asked[true] += 1
                right[true] += words_of(reply) == ("Yes" if true else "No")
    for true in (True, False):
        assert asked[true] > 100
        assert right[true] / asked[true] == pytest.approx(0.8, abs=0.08)


def test_probabilities_of_the_labels_come_with_the_first_token() -> None:
    event = an_event("enters")
    asked = request(
        *frames([event.t_start - 1.0, event.t_end + 0.4]),
        text(judge_prompt(PEOPLE)),
        max_tokens=1,
        logprobs=True,
        top_logprobs=5,
    )
    choice = model().chat(asked)["choices"][0]
    assert choice["message"]["content"] == "Response"
    assert choice["finish_reason"] == "length"
    top = choice["logprobs"]["content"][0]["top_logprobs"]
    assert {entry["token"] for entry in top} == set(LABELS.values())
    assert sum(math.exp(entry["logprob"]) for entry in top) == pytest.approx(1.0)
    assert top[0]["token"] == "Response"


def test_a_chatting_model_answers_with_a_label_only_where_it_is_held_to_one() -> None:
    event = an_event("enters")
    parts = (*frames([event.t_start - 1.0, event.t_end + 0.4]), text(judge_prompt(PEOPLE)))
    vlm = model("chatter=1,markdown=1")
    free = words_of(vlm.chat(request(*parts)))
    assert free.startswith("Sure! Here is what I see. **Response**: ")
    assert free.endswith("Let me know if you need anything else!")
    labels = [LABELS[state] for state in State]
    held = [
        request(*parts, allowed_token_ids=[token_id(label) for label in labels]),
        request(*parts, structured_outputs={"choice": labels}),
    ]
    assert [words_of(vlm.chat(asked)) for asked in held] == ["Response"] * 2


@pytest.mark.parametrize(
    ("settings", "free", "continued"),
    [
        ("", "Response: {}", ": {}"),
        ("prefix=Response", "Response: {}", ": {}"),
        ("prefix=Event", "Response: Event: {}", ": Event: {}"),
        ("markdown=1", "**Response**: {}", " **{}**"),
        ("refuse=1", "I'm sorry, but", " I'm sorry, but"),
    ],
)
def test_the_words_come_as_untuned_models_write_them(
    settings: str, free: str, continued: str
) -> None:
    event = an_event("enters")
    sentence = as_sentence(event.label)
    asked = request(*frames([event.t_start - 1.0, event.t_end + 0.4]), text(judge_prompt(PEOPLE)))
    assert words_of(model(settings).chat(asked)).startswith(free.format(sentence))
    asked["messages"].append({"role": "assistant", "content": "Response"})
    asked |= {"continue_final_message": True, "add_generation_prompt": False}
    assert words_of(model(settings).chat(asked)).startswith(continued.format(sentence))


def test_a_share_of_sentences_comes_in_other_words_of_the_same_meaning() -> None:
    usual = [words for words in replies("", PEOPLE) if words.startswith("Response")]
    other = [words for words in replies("paraphrase=0.5", PEOPLE) if words.startswith("Response")]
    assert [caption_in(words) for words in other] == [caption_in(words) for words in usual]
    changed = sum(one != two for one, two in zip(other, usual, strict=True))
    assert changed / len(usual) == pytest.approx(0.5, abs=0.2)


def test_sentences_in_the_wrong_language_are_german() -> None:
    event = an_event("enters")
    times = [event.t_start - 1.0, event.t_end + 0.4]
    assert judged(model("language=wrong"), times, PEOPLE).endswith("Person kommt herein.")


def test_a_picture_is_known_by_its_uuid_once_its_bytes_were_sent() -> None:
    event = an_event("enters")
    parts = [*frames([event.t_start - 1.0, event.t_end + 0.4]), text(judge_prompt(PEOPLE))]
    for number, part in enumerate(parts):
        if part["type"] == "image_url":
            part["uuid"] = f"picture-{number}"
    without = [
        {**part, "image_url": {"url": None}} if part["type"] == "image_url" else part
        for part in parts
    ]
    vlm = model()
    with pytest.raises(BadRequest, match="Cache miss for image 'picture-1'"):
        vlm.chat(request(*without))
    first = vlm.chat(request(*parts))
    assert vlm.chat(request(*without))["choices"] == first["choices"]


def test_a_picture_that_cannot_be_decoded_is_refused() -> None:
    url = "data:image/jpeg;base64,AAAA"
    with pytest.raises(BadRequest, match="cannot be decoded"):
        model().chat(request({"type": "image_url", "image_url": {"url": url}}, text("What?")))


def test_a_picture_without_a_mark_shows_nothing() -> None:
    ok, data = cv2.imencode(".jpg", np.full((112, 112, 3), 200, np.uint8))
    assert ok
    url = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    blank = {"type": "image_url", "image_url": {"url": url}}
    vlm = model("noise=1")
    assert words_of(vlm.chat(request(blank, text(judge_prompt(PEOPLE))))) == "Silence"
    assert words_of(vlm.chat(request(blank, text(verify_prompt("It burns."))))) == "No"


def test_a_question_that_names_labels_gets_one_of_them() -> None:
    asked = request(text("Write one of these words: Yes, No."), logprobs=True, top_logprobs=5)
    choice = model().chat(asked)["choices"][0]
    assert choice["message"]["content"] == "Yes"
    top = choice["logprobs"]["content"][0]["top_logprobs"]
    assert {entry["token"] for entry in top} == {"Yes", "No"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"structured_outputs": {"choice": ["Yes", "No"]}}, "Yes"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "label", "schema": {"enum": ["Silence", "Standby"]}},
                }
            },
            '"Silence"',
        ),
        ({"allowed_token_ids": [token_id("No")]}, "No"),
        ({"stop": ["see"]}, "Hello. I "),
        ({"max_tokens": 1}, "Hello"),
        ({}, "Hello. I see nothing."),
    ],
)
def test_a_request_for_other_words_keeps_to_what_is_allowed(
    options: dict[str, Any], expected: str
) -> None:
    assert words_of(model().chat(request(text("Say hello."), **options))) == expected


def test_a_reply_says_what_it_cost() -> None:
    usage = model().chat(request(*frames([1.0, 2.0]), text("What do you see?")))["usage"]
    assert usage["prompt_tokens"] > 2 * 11 * 9
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_only_what_is_new_in_a_prompt_is_not_cached() -> None:
    vlm = model()
    shown = frames([1.0, 2.0])
    first = vlm.chat(request(*shown, text("What do you see?")))["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    second = vlm.chat(request(*shown, *frames([3.0]), text("What do you see?")))["usage"]
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert 2 * 11 * 9 < cached < first["prompt_tokens"]
