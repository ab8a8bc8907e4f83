"""Forms of English verbs in searches, and in words that begin or end a state."""

import pytest

from stream_vlm.memory.answers.state_verbs import BEGINS, ENDS
from stream_vlm.memory.search.verb_forms import distinct_stems, forms_of, fts_expression


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("walk", "walk walks walked walking"),
        ("close", "close closes closed closing"),
        ("stop", "stop stops stopped stopping"),
        ("carry", "carry carries carried carrying"),
        ("vanish", "vanish vanishes vanished vanishing"),
        ("take", "take takes took taken taking"),
        ("lie", "lie lies lay lain lying"),
        ("put", "put puts putting"),
        ("run", "run runs ran running"),
        ("go", "go goes went gone going"),
    ],
)
def test_a_verb_has_its_regular_or_irregular_forms(verb: str, forms: str) -> None:
    assert forms_of(verb) == tuple(forms.split())


def test_a_word_is_searched_for_with_its_irregular_forms_and_synonyms() -> None:
    assert fts_expression("took") == fts_expression("takes") == '("take" OR "took" OR "taken")'
    assert fts_expression("came") == '("come" OR "came" OR "enter" OR "arrive" OR "appear")'
    assert fts_expression("lay") == '("lay" OR "laid" OR "lie" OR "lain")', (
        "two verbs share this form"
    )
    assert fts_expression("cup") == '"cup"'
    assert distinct_stems("walk") == ("walk",)


def test_verbs_that_begin_or_end_a_state_are_known_in_every_form() -> None:
    assert {"came in", "went on", "begun", "brought", "put down"} <= set(BEGINS)
    assert {"took", "stolen", "thrown away", "ran away", "went out", "gone"} <= set(ENDS)
    assert not set(BEGINS) & set(ENDS)
