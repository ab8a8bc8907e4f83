"""The steps that an action consists of, each with its exact span."""

from __future__ import annotations

from stream_vlm_lab.simulation.script.script import Event

Step = tuple[str, float, float]
"""Words, start and end in seconds."""


def steps(event: Event) -> list[Step]:
    """What is done in `event`, one step after the other; what has no parts is one step in the words
    of its caption.
    """
    thing = f"the {event.colour} {event.kind}"
    by_hand = event.stand is None
    if event.action == "takes":
        return [
            (f"hand reaches for {thing}", event.t_start, event.t_contact),
            (f"hand takes {thing} away", event.t_contact, event.t_end),
        ]
    if event.action == "puts down" and by_hand:
        return [
            (f"hand brings {thing}", event.t_start, event.t_contact),
            (f"hand lets go of {thing}", event.t_contact, event.t_end),
        ]
    if event.action not in ("picks up", "puts down"):
        return [(event.label, event.t_start, event.t_end)]
    picks = event.action == "picks up"
    walks = f"person walks to {thing}" if picks else f"person carries {thing}"
    bends = f"person bends down to {thing}" if picks else f"person bends down with {thing}"
    rises = f"person lifts {thing}" if picks else f"person lets go of {thing}"
    walked = (
        [(walks, event.t_start, event.t_approached)] if event.t_approached > event.t_start else []
    )
    return [
        *walked,
        (bends, event.t_approached, event.t_contact),
        (rises, event.t_contact, event.t_end),
    ]
