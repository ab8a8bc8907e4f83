"""Computes the limits of a stream's context: its policy and the size of its cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from stream_vlm.backbone.engine_parts import EngineParts
from stream_vlm.context.instructions import judge_prompt, verify_prompt
from stream_vlm.context.policies.policy import ChunkedPolicy, ContextPolicy
from stream_vlm.context.segments import tokens_in
from stream_vlm.types import StreamError

_log = logging.getLogger(__name__)

FEWEST_TURNS = 2
"""A context holds the newest turn and one before it."""
LATE_S = 43200.0
"""A time with as many digits as that of a stream of twelve hours, seconds."""
INSTRUCTION_TOKENS = 128
"""Tokens of the words of an instruction, on average of those that are judged side by side."""


class ContextTooLong(StreamError):
    """Not even the shortest context fits into the positions that the model was trained for.

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
            the next chunk, which is prefilled in advance, and the questions about instructions.
        prefix: the most tokens of the prefix, with the lines at the beginning of a chunk.
        suffix: the most tokens of the question about one instruction with its reply, on average of
            the questions that stand side by side; 0 if the model is not an instruct model.
        branches: how many of these questions stand side by side.
    """

    policy: ContextPolicy
    reserve: int
    capacity: int
    prefix: int
    suffix: int = 0
    branches: int = 0


def plan_context(parts: EngineParts, vision_tokens: int, room: int | None = None) -> ContextPlan:
    """Compute the limits of the context of one camera.

    A context for which the model has too few positions gets as many turns as fit, with a warning.

    Args:
        parts: what all streams of the checkpoint share.
        vision_tokens: vision tokens of a picture of this camera.
        room: the token budget of an earlier plan, whose cache exists already; the new plan does not
            exceed it.

    Raises:
        ContextTooLong: not even two turns fit into the positions that the model was trained for.
    """
    settings, stream, writer = parts.settings, parts.checkpoint.stream, parts.writer
    # The number of tokens of a turn does not depend on the shape of the grid, so one row is used.
    turn_tokens = tokens_in(writer.user(0, 0, 1, (1, vision_tokens), time=LATE_S))
    suffix = branches = 0
    if parts.turns.instruct:
        suffix, branches = _suffix_tokens(parts), settings.decision.branches
    else:
        turn_tokens += tokens_in(writer.close(0)) + parts.tokens.longest_marker
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
    trained = parts.max_positions - suffix
    # If the model has no room for long utterances, turns leave the context earlier.
    room = trained if room is None else min(room, trained)
    fitting = (trained - prefix_tokens - reserve) // turn_tokens
    if fitting < FEWEST_TURNS:
        raise ContextTooLong(
            f"a context of {FEWEST_TURNS} turns takes"
            f" {prefix_tokens + FEWEST_TURNS * turn_tokens + reserve + suffix} tokens, but"
            f" {parts.model_id} was trained for {parts.max_positions} positions; lower"
            " decision.max_new_tokens or context.memory_tokens, or use another checkpoint"
        )

    def policy_of(most_turns: int | None) -> ContextPolicy:
        return stream.context_policy(
            settings.context,
            settings.stream.tick_rate_hz,
            turn_tokens,
            prefix_tokens,
            reserve,
            room,
            most_turns,
        )

    policy = policy_of(None)
    if policy.most_turns > fitting:
        _log.warning(
            "a context of %d turns takes %d tokens, but %s was trained for %d positions; it keeps"
            " %d turns. Lower context.max_seconds or stream.rate_hz to choose its length yourself",
            policy.most_turns,
            prefix_tokens + policy.most_turns * turn_tokens + reserve + suffix,
            parts.model_id,
            parts.max_positions,
            fitting,
        )
        policy = policy_of(fitting)
    return ContextPlan(
        policy,
        reserve,
        policy.max_tokens
        + (prefix_tokens if isinstance(policy, ChunkedPolicy) else 0)
        + branches * suffix,
        prefix_tokens,
        suffix,
        branches,
    )


def _suffix_tokens(parts: EngineParts) -> int:
    """The most tokens of a judgement and its reply, or of a second look at the reply."""
    writer, reply = parts.writer, parts.settings.decision.max_new_tokens
    judge = tokens_in(writer.suffix(0, judge_prompt(".", ".", LATE_S))) + reply
    verify = tokens_in(writer.suffix(0, verify_prompt(".")))
    return max(judge + INSTRUCTION_TOKENS + parts.tokens.longest_marker, verify) + reply


def check_smallest_context(parts: EngineParts) -> None:
    """Check before a run that a context fits the model's positions, with its smallest picture.

    Raises:
        ContextTooLong: not even two turns fit.
    """
    plan_context(parts, parts.checkpoint.pictures.fewest_tokens)
