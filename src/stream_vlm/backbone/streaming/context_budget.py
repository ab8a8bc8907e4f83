"""Computes the limits of a stream's context: its policy and the size of its cache."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy
from stream_vlm.context.segments import tokens_in
from stream_vlm.types import StreamError


class ContextTooLong(StreamError):
    """The settings ask for a longer context than the model was trained for.

    The message says how many tokens are needed, how many fit, and what to lower.
    """


@dataclass(frozen=True)
class ContextPlan:
    """The limits of a stream's context.

    Attributes:
        policy: the context policy.
        reserve: tokens by which the newest turn may still grow: the longest reply and its end
            marks.
        capacity: slots of the cache: the policy's token budget, and for chunks also the prefix of
            the next chunk, which is prefilled in advance.
        prefix: the most tokens of the prefix, with the lines at the beginning of a chunk.
    """

    policy: ContextPolicy
    reserve: int
    capacity: int
    prefix: int


def plan_context(parts: EngineParts, vision_tokens: int, room: int | None = None) -> ContextPlan:
    """Compute the limits of the context of one camera.

    Args:
        parts: what all streams of the checkpoint share.
        vision_tokens: vision tokens of a picture of this camera.
        room: the token budget of an earlier plan, whose cache exists already; the new plan does not
            exceed it.

    Raises:
        ContextTooLong: the settings ask for a longer context than the model was trained for.
    """
    settings, stream, writer = parts.settings, parts.checkpoint.stream, parts.writer
    silent = max(len(marker) for marker in parts.tokens.markers.values())
    # The number of tokens of a turn does not depend on the shape of the grid, so one row is used.
    turn_tokens = (
        tokens_in([*writer.user(0, 0, 1, (1, vision_tokens), is_judged=True), *writer.close(0)])
        + silent
    )
    reserve = (
        settings.decision.max_new_tokens
        + len(parts.tokens.response_end)
        + tokens_in(writer.close(0))
    )
    prefix_tokens = parts.tokens.prefix
    if parts.turns.memory and settings.memory.in_prompt != "off":
        prefix_tokens += (
            len(parts.encode_text(writer.memory_open) + parts.encode_text(writer.memory_close))
            + settings.context.memory_tokens
        )
    trained = parts.max_positions
    # If the model has no room for long utterances, turns leave the context earlier.
    room = trained if room is None else min(room, trained)
    policy = stream.context_policy(
        settings.context, settings.stream.rate_hz, turn_tokens, prefix_tokens, reserve, room
    )
    silent_tokens = prefix_tokens + policy.most_turns * turn_tokens + reserve
    if silent_tokens > trained:
        raise ContextTooLong(
            f"a context of {policy.most_turns} turns takes {silent_tokens} tokens, but"
            f" {parts.model_id} was trained for {trained}; lower context.max_seconds or"
            " stream.rate_hz"
        )
    return ContextPlan(
        policy,
        reserve,
        policy.max_tokens + (prefix_tokens if isinstance(policy, ChunkedPolicy) else 0),
        prefix_tokens,
    )
