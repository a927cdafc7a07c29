"""The house's rules: which part may import which, and what the public names promise."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import jaxsal

ROOT = Path(jaxsal.__file__).parents[1]
FOLDERS = {"jaxsal": "jaxsal", "jaxsal_converters": "converters"}

# The rooms of the house, from the ground up: each imports from floors below its own, never from
# a sibling. A room is a module of the package or a folder in it.
FLOORS = [
    floor.split()
    for floor in (
        "arrays box current_device errors options progress shapes types wording",
        "accelerators compilation display extras grid processes registry resampling store versions",
        "known_answer lesions network_grid nifti same_grid settings tables toml voxels",
        "approximated devices figures metrics nets preprocessing volumes",
        "graph inputs locality losses report",
        "field model",
        "checkpoints saliency",
        "quantus scan",
        "converters evaluation preparation",
        "cohort demo training",
        "detector",
        "experiments",
        "cli",
        "__main__",
    )
]
LONGEST_CHAIN = 12  # modules

# What rooms do without, besides what lies above them.
WITHOUT = {
    "jaxsal": ("torch", "monai"),
    "jaxsal.settings": ("jax", "numpy"),
    "jaxsal.saliency.methods": ("jax", "numpy"),
    "jaxsal.options": ("jax", "numpy"),
    "jaxsal.registry": ("jax", "numpy"),
    "jaxsal.voxels": ("jax", "nibabel"),
    "jaxsal.metrics": ("jax",),
    "jaxsal.preparation": ("jax",),
    "jaxsal.nets": ("nibabel", "orbax"),
    "jaxsal.graph": ("nibabel", "orbax"),
    "jaxsal.locality": ("flax", "nibabel", "orbax"),
    "jaxsal.field": ("flax", "nibabel", "orbax", "jaxsal.nets"),
    "jaxsal.saliency": ("flax", "nibabel", "orbax", "jaxsal.nets", "jaxsal.model"),
    "jaxsal.losses": ("flax", "optax", "nibabel", "orbax"),
    "jaxsal.cohort": ("rich",),
    "jaxsal.scan": ("rich",),
    "jaxsal_converters": ("jaxsal.scan", "jaxsal.inputs"),
}


@cache
def modules() -> dict[str, ast.Module]:
    """The source of every module of the two packages, by name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all that is imported, inside functions too, but not for type checking."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(package if package.endswith(".") else f"{package}.")


def test_all_modules_are_seen() -> None:
    assert {"jaxsal", "jaxsal.nets.unet", "jaxsal.cli.main", "jaxsal_converters.unet"} <= set(
        modules()
    )


def room(name: str) -> str:
    """The room that a module of the two packages is in; empty for the package itself."""
    package, _, inside = name.partition(".")
    return "converters" if package == "jaxsal_converters" else inside.partition(".")[0]


@cache
def arrows() -> dict[str, set[str]]:
    """The modules that each module imports, by name."""
    found = {}
    for name, tree in modules().items():
        wanted = [i for i in imports(tree) if i.partition(".")[0] in FOLDERS]
        # "package.module.name": the longest part of it that is a module
        targets = {i if i in modules() else i.rpartition(".")[0] for i in wanted}
        found[name] = targets - {name, "jaxsal"}  # the package loads its parts on first use
        assert found[name] <= set(modules()), name
    return found


def test_warnings_point_at_the_line_of_the_user() -> None:
    """Of whoever called jaxsal, which `jaxsal.errors.warn` looks for."""
    calls = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
    }
    assert calls == {"jaxsal.errors"}


def test_every_room_has_a_floor() -> None:
    rooms = [each for floor in FLOORS for each in floor]
    assert sorted(rooms) == sorted({room(name) for name in modules()} - {""})


@pytest.mark.parametrize("name", modules())
def test_imports_point_downward(name: str) -> None:
    height = {each: number for number, floor in enumerate(FLOORS) for each in floor}
    own = room(name)
    wrong = [
        target
        for target in arrows()[name]
        if own and room(target) != own and height[room(target)] >= height[own]
    ]
    assert wrong == []


@pytest.mark.parametrize("part", WITHOUT)
def test_rooms_do_without_what_they_need_not_know(part: str) -> None:
    inside = {name: tree for name, tree in modules().items() if is_within(name, part)}
    assert inside
    wrong = [
        f"{name} imports {imported}"
        for name, tree in inside.items()
        for imported in imports(tree)
        for without in WITHOUT[part]
        if is_within(imported, without)
    ]
    assert wrong == []


def test_there_are_no_import_cycles() -> None:
    edges = dict(arrows())
    while True:
        leaves = {name for name, targets in edges.items() if not targets & set(edges)}
        if not leaves:
            break
        edges = {name: targets for name, targets in edges.items() if name not in leaves}
    assert edges == {}


def test_no_chain_of_imports_is_long() -> None:
    @cache
    def chain(name: str) -> list[str]:
        return [name, *max((chain(target) for target in arrows()[name]), key=len, default=[])]

    longest = max((chain(name) for name in modules()), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    for name, tree in modules().items():
        if not is_within(name, "jaxsal.cli") or name == "jaxsal.cli.progress":
            continue
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for imported in imports(ast.Module([node], [])):
                    top = imported.partition(".")[0]
                    own = ("jaxsal.cli", "jaxsal.errors", "jaxsal.settings", "jaxsal.__version__")
                    own += ("jaxsal.options", "jaxsal.wording", "jaxsal.registry")
                    own += ("jaxsal.experiments.catalogue", "jaxsal.preparation.settings")
                    own += ("jaxsal.saliency.methods", "jaxsal.detector.settings")
                    assert top in sys.stdlib_module_names or any(
                        is_within(imported, part) for part in own
                    ), f"{name} imports {imported} before it is needed"


@pytest.mark.parametrize("name", jaxsal.__all__)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(jaxsal, name)
    assert name == "__version__" or (value.__doc__ or "").strip()
    assert name in dir(jaxsal)


def test_public_names_and_their_homes_agree() -> None:
    assert set(jaxsal.__all__) == {"__version__", *jaxsal._HOMES}
    assert list(jaxsal.__all__) == sorted(jaxsal.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        jaxsal.nonsense  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_every_module_tells_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(modules()[name])


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["setuptools"]["packages"]
    expected = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(packages) == expected
