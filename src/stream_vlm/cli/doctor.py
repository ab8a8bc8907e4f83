"""`stream-vlm doctor`: check the installation and say what to fix."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from stream_vlm.cli.options.memory_file import VARIABLE
from stream_vlm.config.settings import load_settings
from stream_vlm.redact import hide_arguments
from stream_vlm.types import StreamError

Verdict = Literal["ok", "note", "wrong"]
MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: what was checked.
        verdict: "note" is no fault but limits what works; "wrong" must be fixed.
        text: what was found and, where it is wrong, how to fix it.
    """

    subject: str
    verdict: Verdict
    text: str


def check_python() -> Finding:
    """Report the Python interpreter; an unsupported one fails before this check."""
    return Finding("python", "ok", f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")


def check_libraries(*, with_server: bool = False) -> Finding:
    """Check that the libraries a run needs can be imported.

    Args:
        with_server: whether the model runs on a server, so that torch is not needed.
    """
    names = {"cv2": "opencv-python-headless", "rosbags.image": "rosbags-image"}
    names |= (
        {"httpx": "httpx"} if with_server else {"torch": "torch", "transformers": "transformers"}
    )
    missing = []
    for module, package in names.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            # A broken installation may raise any error, not only ImportError.
            missing.append(
                f"{package} ({type(error).__name__}:"
                f" {str(error).splitlines()[0] if str(error) else 'no message'})"
            )
    if missing:
        return Finding(
            "libraries",
            "wrong",
            f"cannot be imported: {'; '.join(missing)}; install them with 'pip install .' in the"
            " project",
        )
    return Finding(
        "libraries",
        "ok",
        ", ".join(f"{package} {importlib.metadata.version(package)}" for package in names.values()),
    )


def check_device() -> Finding:
    """Report the device that the model will run on."""
    import torch

    if torch.cuda.is_available():
        return Finding("device", "ok", f"cuda: {torch.cuda.get_device_name(0)}")
    return Finding(
        "device",
        "note",
        f"cpu, {torch.get_num_threads()} threads; no GPU was found. The shipped model runs on the"
        " CPU, larger models are slow",
    )


def check_model(directory: str) -> Finding:
    """Check that the checkpoint in `directory` loads; empty means the shipped model."""
    from stream_vlm.backbone import load_model

    try:
        model = load_model(load_settings({"model.directory": directory}))
    except StreamError as error:
        return Finding("model", "wrong", str(error))
    return Finding("model", "ok", f"{model.model_id} ({model.engine})")


def check_server(url: str, name: str) -> Finding:
    """Ask the server at `url` what it can do as the model; empty `name` means its only model."""
    from stream_vlm.backbone.remote.http_transport import KEY, HttpTransport
    from stream_vlm.backbone.remote.probe import probe

    try:
        abilities = probe(HttpTransport(url, os.environ.get(KEY, "")), name)
    except StreamError as error:
        return Finding("server", "wrong", str(error))
    return Finding("server", "ok", f"{abilities.model}: {'; '.join(abilities.sentences)}")


def check_memory(path: str, key_file: str = "") -> Finding:
    """Check that the memory file can be written, or can be created."""
    from stream_vlm.config.memory_settings import MemorySettings
    from stream_vlm.memory.memory import Memory

    file = Path(path).expanduser()
    try:
        if file.exists():
            with Memory.open(
                MemorySettings(path=str(file), key_file=key_file), read_only=True
            ) as memory:
                rows = memory.count()
            if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
                return Finding(
                    "memory",
                    "wrong",
                    f"{file}: {rows} records, but this user may not write it; change its owner, or"
                    " set memory.path to another file",
                )
            return Finding("memory", "ok", f"{file}: {rows} records")
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            return Finding("memory", "ok", f"{file}: does not exist yet, can be created")
    except StreamError as error:
        return Finding("memory", "wrong", str(error))
    except OSError as error:
        return Finding(
            "memory",
            "wrong",
            f"{file}: cannot be created: {error.strerror}; set memory.path to a folder that you may"
            " write",
        )


def check_ros() -> Finding:
    """Check that ROS 2 and this package's messages can be imported."""
    try:
        importlib.import_module("rclpy")
    except Exception as error:
        # rclpy raises its own errors when its libraries are not on the loader's path.
        return Finding(
            "ros",
            "note",
            f"rclpy cannot be imported ({type(error).__name__}): run and replay work, the node"
            " does not; source the ROS 2 setup file first",
        )
    distro = os.environ.get("ROS_DISTRO", "unknown distribution")
    try:
        importlib.import_module("stream_vlm_ros.msg")
    except ImportError:
        return Finding(
            "ros",
            "note",
            f"{distro}: the messages of stream_vlm_ros are missing; build with colcon or 'make"
            " build' and source the result",
        )
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    return Finding(
        "ros",
        "ok",
        f"{distro}, rmw {os.environ.get('RMW_IMPLEMENTATION', 'default')}, domain {domain}",
    )


@click.command(short_help="Check the installation and say what to fix.")
@click.option(
    "--model",
    "directory",
    default="",
    help="Directory of the checkpoint to check; the shipped model when left out.",
)
@click.option(
    "--model-url",
    "url",
    default="",
    metavar="URL",
    help="Server to check as the model, as in model.url; no checkpoint is loaded then. Its key is"
    " read from the environment variable STREAM_VLM_MODEL_KEY.",
)
@click.option(
    "--model-name",
    "name",
    default="",
    help="Name of the model at the server; its only model when left out.",
)
@click.option(
    "--memory",
    "path",
    default=load_settings({}).memory.path,
    show_default=True,
    help="Memory file to check.",
)
@click.option(
    "--key-file",
    default="",
    envvar=VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="Passphrase of an encrypted memory.",
)
def doctor(directory: str, url: str, name: str, path: str, key_file: str) -> int:
    """Check Python, libraries, device, checkpoint or server, memory file and ROS.

    Exits with 1 when something must be fixed.
    """
    checks: list[Callable[[], Finding]] = [
        check_python,
        lambda: check_libraries(with_server=bool(url)),
    ]
    if url:
        hide_arguments(sys.argv)
        checks += [lambda: check_server(url, name)]
    else:
        checks += [check_device, lambda: check_model(directory)]
    checks += [lambda: check_memory(path, key_file), check_ros]
    wrong = 0
    for check in checks:
        try:
            finding = check()
        except ImportError as error:
            finding = Finding(
                check.__name__.removeprefix("check_").strip("<>"),
                "wrong",
                f"{error}; see 'libraries' above",
            )
        wrong += finding.verdict == "wrong"
        click.echo(f"{MARKS[finding.verdict]} {finding.subject:<10} {finding.text}")
    click.echo("no problems found" if not wrong else f"{wrong} problems to fix")
    return 1 if wrong else 0
