"""Turns the arguments of the launch files into parameters.

This file does not import `launch`, so its tests run without a ROS distribution.
"""

from __future__ import annotations

from collections.abc import Mapping


def camera_parameters(value: Mapping[str, str]) -> dict[str, object]:
    """Return the parameters for the arguments `cameras`, `topics` and `transports`.

    Each argument is a list separated by commas. An empty one sets no parameter, so the parameter
    file or the default applies. A single transport is used for all cameras.

    Raises:
        ValueError: topics or transports are given without cameras, or not one for each camera.
    """
    cameras, topics, transports = (
        split(value[name]) for name in ("cameras", "topics", "transports")
    )
    if not cameras:
        if topics or transports:
            raise ValueError(
                "topics and transports belong to the cameras that `cameras` names: give"
                " cameras:=front,rear too"
            )
        return {}
    if len(transports) == 1:
        transports *= len(cameras)
    parameters: dict[str, object] = {"cameras": cameras}
    for name, given, setting in (
        ("topics", topics, "topic"),
        ("transports", transports, "transport"),
    ):
        if not given:
            continue
        if len(given) != len(cameras):
            raise ValueError(
                f"{name}:={value[name]} names {len(given)} for {len(cameras)} cameras"
                f" ({value['cameras']}); name one for each"
            )
        parameters |= {
            f"camera.{camera}.{setting}": word for camera, word in zip(cameras, given, strict=True)
        }
    return parameters


def instruction_parameters(value: str) -> dict[str, object]:
    """Return the parameters for the argument `instructions`: sentences separated by semicolons.

    An empty one sets no parameter, so the parameter file or the default applies.
    """
    instructions = split(value, ";")
    return {"instructions": instructions} if instructions else {}


def split(words: str, separator: str = ",") -> list[str]:
    """Return the words between the separators, without spaces around them."""
    return [word.strip() for word in words.split(separator) if word.strip()]


def is_true(name: str, word: str) -> bool:
    """Return whether `word`, the value of the argument `name`, is "true".

    Raises:
        ValueError: it is neither true nor false.
    """
    if word.lower() not in ("true", "false"):
        raise ValueError(f"{name}:={word} is refused; give true or false")
    return word.lower() == "true"
