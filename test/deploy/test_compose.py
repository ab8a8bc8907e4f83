"""The compose file for one GPU: its schema, the arguments of vLLM, and the node's parameters."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY
from server_settings import ServerSettings

from stream_vlm.config.settings import load_settings

COMPOSE = REPOSITORY / "deploy" / "compose.yaml"
ROBOT = REPOSITORY / "deploy" / "robot.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def resolved(text: str, **given: str) -> str:
    """`text` with its variables replaced as Docker Compose does."""

    def value(found: re.Match[str]) -> str:
        name, operator, default = found.groups()
        if given.get(name):
            return given[name]
        assert operator != "?", default
        return default or ""

    return VARIABLE.sub(value, text)


def services(**given: str) -> dict[str, Any]:
    text = COMPOSE.read_text(encoding="utf-8")
    return dict(
        yaml.safe_load(resolved(text, MODELS="/data", MODEL="Qwen3-VL-8B", **given))["services"]
    )


def schema_findings(file: Path) -> str:
    command = [Path(sys.executable).parent / "check-jsonschema"]
    done = subprocess.run(
        [*command, "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr + f"exit {done.returncode}"


def test_docker_compose_can_read_the_file() -> None:
    assert schema_findings(COMPOSE) == ""


def test_an_unknown_key_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("network_mode:", "network:", 1))
    assert "network" in schema_findings(broken)


@pytest.mark.parametrize("name", ["MODELS", "MODEL"])
def test_without_a_model_the_file_says_what_to_set(name: str) -> None:
    given = {"MODELS": "/data", "MODEL": "Qwen3-VL-8B"}
    del given[name]
    with pytest.raises(AssertionError, match=f"set {name} to"):
        resolved(COMPOSE.read_text(encoding="utf-8"), **given)


def test_vllm_gets_the_arguments_that_a_stream_needs() -> None:
    wanted = {
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value:g}")
        if not isinstance(value, str)
        else f"--{name.replace('_', '-')}={value}"
        for name, value in ServerSettings().engine_arguments().items()
    }
    folder, name, *given = services()["model"]["command"]
    assert (folder, name) == ("/models/Qwen3-VL-8B", "--served-model-name=watcher")
    assert "/data:/models:ro" in services()["model"]["volumes"]
    assert set(given) == wanted


def test_the_server_is_open_to_this_machine_alone_unless_an_address_is_given() -> None:
    assert services()["model"]["ports"] == ["127.0.0.1:8000:8000"]
    assert services(MODEL_ADDRESS="0.0.0.0")["model"]["ports"] == ["0.0.0.0:8000:8000"]


def test_server_and_node_have_the_same_key() -> None:
    found = services(MODEL_KEY="secret")
    assert found["model"]["environment"]["VLLM_API_KEY"] == "secret"
    assert found["node"]["environment"]["STREAM_VLM_MODEL_KEY"] == "secret"


def test_the_node_is_built_from_files_that_exist() -> None:
    build = services()["node"]["build"]
    context = COMPOSE.parent / build["context"]
    assert (context / build["dockerfile"]).is_file()
    assert f"ARG {next(iter(build['args']))}=" in (context / build["dockerfile"]).read_text()


def test_the_parameters_of_the_node_are_settings_and_lead_to_the_server() -> None:
    parameters = yaml.safe_load(ROBOT.read_text(encoding="utf-8"))["/**"]["ros__parameters"]
    settings = load_settings(parameters)
    found = services()
    port = found["model"]["ports"][0].split(":")[1]
    assert settings.model.url == f"http://localhost:{port}/v1"
    assert f"--served-model-name={settings.model.name}" in found["model"]["command"]
    assert f"params_file:=/{ROBOT.name}" in found["node"]["command"]
    # The memory outlives the container.
    assert f"memory:{Path(settings.memory.path).parent}" in found["node"]["volumes"]
