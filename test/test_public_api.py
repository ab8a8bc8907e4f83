"""The public face of the library: four names, imported when they are used."""

import subprocess
import sys

import pytest

import stream_vlm


@pytest.mark.parametrize("name", ["Memory", "Pipeline", "load_settings", "open_source"])
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(stream_vlm, name)
    assert getattr(sys.modules[value.__module__], name) is value


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipelines'"):
        _ = stream_vlm.Pipelines  # type: ignore[attr-defined]


def test_the_package_alone_imports_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import stream_vlm;"
        " print(*{name.split('.')[0] for name in sys.modules.keys() - before}"
        " - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["stream_vlm"], done.stderr
