"""One table of English verbs: what is looked for, what happened, and what begins and ends follow
it.
"""

import pytest

from stream_vlm.memory.answers.state_verbs import BEGINS, ENDS
from stream_vlm.memory.search.verb_forms import forms_of, matching, said_as


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


def test_a_form_is_looked_for_with_those_that_no_stemmer_brings_together() -> None:
    assert matching("took") == matching("takes") == '("take" OR "took" OR "taken")'
    assert matching("came") == '("come" OR "came" OR "enter" OR "arrive" OR "appear")'
    assert matching("lay") == '("lay" OR "laid" OR "lie" OR "lain")', "two verbs share this form"
    assert matching("cup") == '"cup"'
    assert said_as("walk") == ("walk",)


def test_what_begins_and_ends_a_state_is_known_in_every_form() -> None:
    assert {"came in", "went on", "begun", "brought", "put down"} <= set(BEGINS)
    assert {"took", "stolen", "thrown away", "ran away", "went out", "gone"} <= set(ENDS)
    assert not set(BEGINS) & set(ENDS)
