"""The cache of rendered rooms is rendered again when a file that draws or labels them changes."""

import shutil
from pathlib import Path

from import_graph import OUR_FILES, SOURCES, reached_from

import stream_vlm_lab
from stream_vlm_lab.training.shipped_model.render_cache import (
    digest_of,
    drawing_digest,
    drawing_sources,
)


def test_a_change_of_any_file_that_draws_or_labels_changes_the_digest(tmp_path: Path) -> None:
    copies = [
        Path(shutil.copy(source, tmp_path / f"{number}.py"))
        for number, source in enumerate(drawing_sources())
    ]
    before = digest_of(copies)
    assert before == drawing_digest()
    unnoticed = []
    for copy in copies:
        text = copy.read_bytes()
        copy.write_bytes(text + b"\n")
        if digest_of(copies) == before:
            unnoticed.append(copy)
        copy.write_bytes(text)
    assert not unnoticed


def test_every_file_of_the_simulation_that_rendering_imports_is_in_the_digest() -> None:
    folder = Path(stream_vlm_lab.__file__).parent
    sources = {source.relative_to(folder) for source in drawing_sources()}
    reached = {
        OUR_FILES[name].relative_to(SOURCES / "stream_vlm_lab")
        for name in reached_from("stream_vlm_lab.training.shipped_model.rendering")
        if name.startswith("stream_vlm_lab.simulation.")
    }
    assert len(reached) > 30
    assert reached <= sources
