"""Settings of the memory: its file, what goes into the prompt, pictures, summaries, retention.

The group is a field of `stream_vlm.config.settings.Settings`, which says how settings are named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from stream_vlm.config.field import Group, setting


def _split(names: object) -> object:
    """Split "a,b" into a list, as the command line gives it."""
    if not isinstance(names, str):
        return names
    return [name.strip() for name in names.split(",") if name.strip()]


class MemorySettings(Group):
    """Where the memory is, what it keeps and for how long."""

    path: str = setting(
        "~/.ros/stream_vlm/memory.db",
        "SQLite file of the memory. It is created if it does not exist; otherwise new records are"
        " added to it.",
        read_only=True,
    )
    key_file: str = setting(
        "",
        "File whose first line is the passphrase of an encrypted memory file (SQLCipher). Only its"
        " owner may be able to read it. Empty means no encryption.",
        read_only=True,
    )
    in_prompt: Literal["recall", "full_history", "off"] = setting(
        "recall",
        "What the model reads about the past. recall adds matching records to each question and"
        " watch, and summaries at the start of a chunk. full_history starts every chunk with all"
        " past utterances (the newest, if they do not fit). off adds nothing.",
        read_only=True,
    )
    text_model: str = setting(
        "",
        "Directory of a sentence-transformers model, which finds records by meaning (recall order"
        " fused). Empty finds them by their words only.",
        read_only=True,
    )
    map_frames: Annotated[list[str], BeforeValidator(_split)] = setting(
        ["map", "earth"],
        "Frames in which positions of different sessions can be compared; a prefix does not count,"
        " so map includes robot1/map. In any other frame, such as odom, the origin changes with"
        " each session, so a search near a place looks at one session only.",
        read_only=True,
    )
    thumbnail_width: int = setting(
        320,
        "Width of the stored pictures. The height follows from the camera's aspect ratio; smaller"
        " pictures are never enlarged.",
        unit="pixel",
        minimum=32,
        maximum=1920,
    )
    thumbnail_quality: int = setting(
        80,
        "JPEG quality of the stored pictures. A lower value makes a smaller memory file.",
        minimum=10,
        maximum=100,
    )
    thumbnail_period_s: float = setting(
        1.0,
        "While nothing is said, store at most one picture per this time; 0 stores every processed"
        " frame. Utterances and events always get a picture.",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    picture_vectors: bool = setting(
        True,
        "Store one vector of the vision tower with each picture, so that recall can find similar"
        " pictures.",
    )
    summarizer: Literal["extractive", "model", "endpoint", "off"] = setting(
        "extractive",
        "Who writes the summaries. extractive selects the most important texts of the records;"
        " model lets the running model rewrite them in its idle time; endpoint lets a chat server"
        " rewrite them (memory.summary_url); off makes no summaries.",
        read_only=True,
    )
    chunk_s: float = setting(
        200.0,
        "Length of the part of the stream that one summary covers. Each camera has its own"
        " summaries.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
        read_only=True,
    )
    chunk_summaries: int = setting(
        5,
        "How many chunk summaries are kept apart. Above N, the oldest N are merged into one.",
        minimum=1,
        maximum=100,
        read_only=True,
    )
    merged_summaries: int = setting(
        42,
        "How many merged summaries are shown as the distant past; older ones stay in the file. The"
        " default values together cover 12 hours.",
        minimum=1,
        maximum=1000,
        read_only=True,
    )
    summary_chars: int = setting(
        400,
        "Longest summary.",
        unit="characters",
        minimum=40,
        maximum=8000,
        read_only=True,
    )
    summary_tokens: int = setting(
        1024,
        "With summarizer model: most tokens of records that the model reads for one summary. If"
        " there are more, it reads the newest.",
        unit="tokens",
        minimum=128,
        maximum=32768,
        read_only=True,
    )
    summary_url: str = setting(
        "",
        "With summarizer endpoint: address of a server with the OpenAI chat API, for example"
        " http://localhost:8000/v1. The API key is read from the environment variable"
        " STREAM_VLM_SUMMARY_KEY.",
        read_only=True,
    )
    summary_model: str = setting(
        "",
        "With summarizer endpoint: name of the model that the server is asked for.",
        read_only=True,
    )
    summary_timeout_s: float = setting(
        60.0,
        "With summarizer endpoint: how long to wait for one summary. Until it arrives, the"
        " extractive summary is used.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
        read_only=True,
    )
    captioner: Literal["auto", "model", "endpoint", "off"] = setting(
        "auto",
        "Who describes what the camera shows, in one or two sentences that the memory keeps. auto"
        " lets the running model do it in its idle time if it is an instruct model, and nobody if"
        " it is a model that was tuned for streams; model lets the running model do it; endpoint"
        " lets a chat server do it that reads pictures (memory.caption_url); off stores no"
        " captions.",
        read_only=True,
    )
    caption_s: float = setting(
        10.0,
        "Time between two captions of a camera. A new scene is captioned earlier.",
        unit="s",
        minimum=0.5,
        maximum=3600.0,
    )
    caption_chars: int = setting(
        240,
        "Longest caption; what is longer is cut after a whole sentence.",
        unit="characters",
        minimum=40,
        maximum=2000,
        read_only=True,
    )
    caption_url: str = setting(
        "",
        "With captioner endpoint: address of a server with the OpenAI chat API whose model reads"
        " pictures, for example http://localhost:8000/v1. The API key is read from the environment"
        " variable STREAM_VLM_CAPTION_KEY.",
        read_only=True,
    )
    caption_model: str = setting(
        "",
        "With captioner endpoint: name of the model that the server is asked for.",
        read_only=True,
    )
    caption_timeout_s: float = setting(
        30.0,
        "With captioner endpoint: how long to wait for one caption.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
        read_only=True,
    )
    keep_records_h: float = setting(
        72.0,
        "Delete records (observations, captions, events, utterances, questions, answers) that are"
        " older than this. 0 keeps them forever.",
        unit="h",
        minimum=0.0,
        maximum=876000.0,
    )
    keep_records_mb: float = setting(
        1000.0,
        "Delete the oldest records when all records together take about more than this. 0 sets no"
        " limit.",
        unit="MB",
        minimum=0.0,
        maximum=999999.0,
    )
    keep_pictures_h: float = setting(
        48.0,
        "Delete pictures that are older than this. 0 keeps them forever.",
        unit="h",
        minimum=0.0,
        maximum=876000.0,
    )
    keep_pictures_mb: float = setting(
        4000.0,
        "Delete the oldest pictures when all pictures together take more than this. 0 sets no"
        " limit.",
        unit="MB",
        minimum=0.0,
        maximum=999999.0,
    )
    keep_summaries_h: float = setting(
        720.0,
        "Delete summaries that are older than this. 0 keeps them forever.",
        unit="h",
        minimum=0.0,
        maximum=876000.0,
    )
    keep_summaries_mb: float = setting(
        100.0,
        "Delete the oldest summaries when all summaries together take about more than this. 0 sets"
        " no limit.",
        unit="MB",
        minimum=0.0,
        maximum=999999.0,
    )
    busy_timeout_s: float = setting(
        5.0,
        "How long to wait while another program holds the lock of the memory file. After that the"
        " file cannot be opened.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
        read_only=True,
    )
