"""Settings of the delegate: a larger model that gets the questions that are too hard."""

from __future__ import annotations

from typing import Literal

from stream_vlm.config.field import Group, setting


class DelegateSettings(Group):
    """A larger model behind a server, and which questions it gets."""

    url: str = setting(
        "",
        "Address of a server with the OpenAI chat API whose model reads pictures, for example"
        " http://localhost:8000/v1. It gets questions that the running model cannot answer. The API"
        " key is read from the environment variable STREAM_VLM_DELEGATE_KEY. Empty delegates"
        " nothing.",
        read_only=True,
    )
    model: str = setting(
        "",
        "Name of the model that the server of delegate.url is asked for.",
        read_only=True,
    )
    when: Literal["unsure", "always", "off"] = setting(
        "unsure",
        "Which questions go to delegate.url. unsure: those to which neither the running model nor"
        " the memory knows the answer (decision.min_answer_confidence); always: all but those that"
        " the memory has computed; off: none.",
    )
    timeout_s: float = setting(
        30.0,
        "How long to wait for an answer of delegate.url. After that the answer of the running model"
        " counts.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
        read_only=True,
    )
    frames: int = setting(
        4,
        "How many of the newest pictures of the camera go with a question.",
        minimum=1,
        maximum=32,
        read_only=True,
    )
