"""How much context a stream gets: its policy, and the cache that this policy needs."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.context.layout import tokens_in
from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy
from stream_vlm.types import StreamError


class ContextTooLong(StreamError):
    """The settings ask for a longer context than the model was trained for; the message says by how
    much and what to lower.
    """


@dataclass(frozen=True)
class ContextPlan:
    """What a stream's context may hold.

    Attributes:
        reserve: tokens that the newest turn may still grow by: the longest reply with its end
            marks.
        capacity: slots of its cache: the policy's budget, and beside it the head of a next chunk
            that is prefilled in the background.
        head: tokens that the head may have, with the past that a chunk begins with.
    """

    policy: ContextPolicy
    reserve: int
    capacity: int
    head: int


def plan_context(parts: EngineParts, vision_tokens: int, room: int | None = None) -> ContextPlan:
    """The plan for a camera whose pictures have `vision_tokens` tokens.

    Args:
        room: the budget of the plan before, whose cache is there already; the new one stays within
            it.

    Raises:
        ContextTooLong: the settings ask for more positions than the model was trained to tell
            apart.
    """
    settings, stream, writer = parts.settings, parts.checkpoint.stream, parts.writer
    silent = max(len(marker) for marker in parts.tokens.markers.values())
    # A turn of `vision_tokens` in one row holds as many tokens as one on any other grid.
    turn_tokens = (
        tokens_in([*writer.user(0, 0, 1, (1, vision_tokens), is_judged=True), *writer.close(0)])
        + silent
    )
    reserve = (
        settings.decision.max_new_tokens
        + len(parts.tokens.response_end)
        + tokens_in(writer.close(0))
    )
    head_tokens = parts.tokens.head
    if parts.turns.memory and settings.memory.in_prompt != "off":
        head_tokens += (
            len(parts.encode_text(writer.memory_open) + parts.encode_text(writer.memory_close))
            + settings.context.memory_tokens
        )
    trained = parts.max_positions
    # What words take beyond silent turns leaves earlier where the model has no room for it.
    room = trained if room is None else min(room, trained)
    policy = stream.context_policy(
        settings.context, settings.stream.rate_hz, turn_tokens, head_tokens, reserve, room
    )
    silent_tokens = head_tokens + policy.most_turns * turn_tokens + reserve
    if silent_tokens > trained:
        raise ContextTooLong(
            f"a context of {policy.most_turns} turns takes {silent_tokens} tokens, but"
            f" {parts.model_id} tells only {trained} positions apart; lower context.max_seconds or"
            " stream.rate_hz"
        )
    return ContextPlan(
        policy,
        reserve,
        policy.max_tokens + (head_tokens if isinstance(policy, ChunkedPolicy) else 0),
        head_tokens,
    )
