"""The reader of imports finds every import of a made-up source, and every circle of one."""

import pytest
from import_graph import find_circle, graph_of_level, imported_names

OURS = {"house", "house.kitchen", "house.kitchen.stove", "house.kitchen.table", "house.cellar"}


def names(source: str, module: str = "house.kitchen.stove", **options: bool) -> set[str]:
    return imported_names(
        source, module, is_package=options.pop("is_package", False), ours=OURS, **options
    )


HIDDEN = {
    "under TYPE_CHECKING": "if TYPE_CHECKING:\n    from house.cellar import Wine\n",
    "under typing.TYPE_CHECKING": "if typing.TYPE_CHECKING:\n    import house.cellar\n",
    "in a function": "def cook():\n    from house.cellar import Wine\n",
    "in a method": "class Cook:\n    def cook(self):\n        import house.cellar\n",
    "in an async function": "async def cook():\n    from house import cellar\n",
}


@pytest.mark.parametrize("source", HIDDEN.values(), ids=HIDDEN)
def test_an_import_that_does_not_run_at_import_time_is_read(source: str) -> None:
    assert names(source) == {"house.cellar"}
    assert names(source, at_import_time=True) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import house.cellar\n",
        "import house.cellar as below\n",
        "from house import cellar\n",
        "from house.cellar import Wine\n",
        "from .. import cellar\n",
        "from ..cellar import Wine\n",
        "try:\n    from house import cellar\nexcept ImportError:\n    cellar = None\n",
        "class Cook:\n    from house import cellar\n",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import house.cellar\n",
    ],
)
def test_an_import_that_runs_at_import_time_is_read(source: str) -> None:
    assert names(source) == {"house.cellar"}
    assert names(source, at_import_time=True) == {"house.cellar"}


def test_a_name_from_a_package_means_its_module_or_else_the_package() -> None:
    assert names("from house.kitchen import table, Spoon\n") == {
        "house.kitchen.table",
        "house.kitchen",
    }


def test_relative_imports_of_an_init_start_at_its_own_package() -> None:
    found = names("from . import stove\nfrom .table import Leg\n", "house.kitchen", is_package=True)
    assert found == {"house.kitchen.stove", "house.kitchen.table"}


def test_foreign_modules_are_read_by_the_name_that_is_imported() -> None:
    assert names("import torch.nn\nfrom numpy.typing import NDArray\n") == {
        "torch.nn",
        "numpy.typing",
    }


def test_a_circle_is_given_in_the_order_of_its_imports() -> None:
    circle = find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert circle[0] == circle[-1]
    assert set(circle) == {"a", "b", "c"}
    assert "".join(circle) in ("abca", "bcab", "cabc")


def test_a_graph_in_one_direction_has_no_circle() -> None:
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_folders_whose_files_have_no_circle_may_still_have_one() -> None:
    files = {
        "house": set[str](),
        "house.kitchen.stove": {"house.cellar.coal"},
        "house.cellar.coal": set[str](),
        "house.cellar.wine": {"house.kitchen.table"},
        "house.kitchen.table": set[str](),
    }
    assert find_circle(files) == []
    level = graph_of_level(files, "house")
    assert level == {"__init__": set(), "kitchen": {"cellar"}, "cellar": {"kitchen"}}
    assert find_circle(level)


def test_the_init_of_a_package_is_a_node_of_its_level() -> None:
    files = {"house": {"house.door"}, "house.door": {"house"}, "shed": {"house"}}
    assert graph_of_level(files, "house") == {"__init__": {"door"}, "door": {"__init__"}}
    assert graph_of_level(files, "") == {"house": set(), "shed": {"house"}}
