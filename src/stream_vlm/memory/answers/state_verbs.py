"""Full-text expressions for the verbs and words that begin or end a state."""

from __future__ import annotations

from stream_vlm.memory.answers.state_pairs import BE, PAIRS, Side
from stream_vlm.memory.search.verb_forms import distinct_stems, forms_of

_LEAVES = ["left the", "has left", "have left", "gone"]
""""To the left" does not count as leaving."""


def verb_phrases(side: Side) -> list[str]:
    """Return the verbs that begin `side`, each with its irregular forms: "come in", "came in".

    The index stems them: "open" also matches "opened".
    """
    phrases = [" ".join((form, *rest)) for first, *rest in side.verbs for form in _forms(first)]
    if ("leave",) in side.verbs:
        phrases += _LEAVES
    return [phrase for phrase in dict.fromkeys(phrases) if phrase != "left"]


def side_expression(side: Side) -> str:
    """Return the FTS5 expression for a text that says that `side` begins or holds."""
    states = [f"{be} {state}" for be in sorted(BE) for state in sorted(side.states)]
    said = " OR ".join(f'"{phrase}"' for phrase in [*verb_phrases(side), *states])
    return f'(({said}) NOT "close to")' if ("close",) in side.verbs else f"({said})"


def loose_expression(side: Side) -> str:
    """Return the FTS5 expression for texts that may say `side`, where the sentence has to be read.

    "Turns the lamp on" says it, "turns around on the table" does not. Empty if there are none.
    """
    apart = [
        f'NEAR("{form}" "{rest[-1]}", 5)'
        for first, *rest in side.verbs
        if rest
        for form in _forms(first)
    ]
    if ("leave",) in side.verbs:
        apart.append('"left"')
    if "lit" in side.states:
        apart += ['"light"', '"lit"']
    return f"({' OR '.join(apart)})" if apart else ""


def _forms(verb: str) -> tuple[str, ...]:
    # The stemmer of the index gives "goes" and "flies" another stem than "go" and "fly".
    third = forms_of(verb)[1:2] if verb == "go" or verb.endswith("y") else ()
    return tuple(dict.fromkeys((*distinct_stems(verb), *third)))


BEGINS = [phrase for pair in PAIRS for phrase in verb_phrases(pair.yes)]
"""Every phrase that begins the first state of a pair."""

ENDS = [phrase for pair in PAIRS for phrase in verb_phrases(pair.no)]
"""Every phrase that ends it, that is, begins its opposite."""
