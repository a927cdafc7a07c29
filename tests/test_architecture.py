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

# Parts of the package, and what none of their modules may import, anywhere.
WHOLES = ("jaxsal.preparation", "jaxsal.training", "jaxsal.experiments")  # each by itself
EDGE = (
    *("jaxsal.scan", "jaxsal.cohort", "jaxsal.evaluation", *WHOLES, "jaxsal.cli"),
    *("jaxsal.report", "jaxsal.demo", "jaxsal_converters"),
)
ABOVE = ("jaxsal.cli", "jaxsal.demo", "jaxsal_converters", "rich")
FILES = ("jaxsal.volumes", "jaxsal.store.files", "jaxsal.checkpoints", "nibabel", "orbax")
FORBIDDEN = {
    "jaxsal.types": ("jaxsal.",),
    "jaxsal.errors": ("jaxsal.",),
    "jaxsal.voxels": ("jax", "nibabel", "jaxsal.volumes", "jaxsal.grid"),
    "jaxsal.settings": ("jax", "numpy", *EDGE, *FILES),
    "jaxsal.nets": (
        *("jaxsal.saliency", "jaxsal.field", "jaxsal.lesions", "jaxsal.model"),
        *EDGE,
        *FILES,
    ),
    "jaxsal.locality": ("jaxsal.saliency", "jaxsal.field", "jaxsal.model", "flax", *EDGE, *FILES),
    "jaxsal.field": ("jaxsal.saliency", "jaxsal.nets", "jaxsal.model", *EDGE, *FILES),
    "jaxsal.saliency": ("jaxsal.nets", "jaxsal.model", "flax", *EDGE, *FILES),
    "jaxsal.model": ("jaxsal.saliency", "jaxsal.field", *EDGE, *FILES),
    "jaxsal.grid": ("jaxsal.volumes", "jaxsal.saliency", "jaxsal.nets", *EDGE),
    "jaxsal.same_grid": ("jaxsal.volumes", "jaxsal.saliency", "jaxsal.nets", *EDGE),
    "jaxsal.volumes": ("jaxsal.saliency", "jaxsal.nets", "jaxsal.field", "jaxsal.model", *EDGE),
    "jaxsal.lesions": ("jaxsal.saliency", "jaxsal.nets", "jaxsal.field", "jaxsal.model", *EDGE),
    "jaxsal.metrics": ("jax", "jaxsal.saliency", "jaxsal.nets", "jaxsal.model", *EDGE, *FILES),
    "jaxsal.losses": (
        *("jaxsal.saliency", "jaxsal.field", "jaxsal.nets", "jaxsal.model", "flax", "optax"),
        *EDGE,
        *FILES,
    ),
    "jaxsal.evaluation.intervals": ("jax", "jaxsal."),
    "jaxsal.report": (
        *("jaxsal.saliency", "jaxsal.nets", "jaxsal.scan", "jaxsal.cohort", "jaxsal.evaluation"),
        "jaxsal.cli",
    ),
    "jaxsal.scan": ("jaxsal.cohort", "jaxsal.evaluation", *WHOLES, *ABOVE),
    "jaxsal.cohort": ("jaxsal.evaluation", *WHOLES, *ABOVE),
    "jaxsal.evaluation": (*WHOLES, *ABOVE),
    "jaxsal.preparation": (
        *("jax", "jaxsal.saliency", "jaxsal.field", "jaxsal.nets", "jaxsal.model"),
        *("jaxsal.evaluation", "jaxsal.training", "jaxsal.experiments", *ABOVE),
    ),
    "jaxsal.training": ("jaxsal.preparation", "jaxsal.experiments", *ABOVE),
    "jaxsal.experiments": ("jaxsal.preparation", "jaxsal.training", *ABOVE),
    "jaxsal": ("torch", "monai"),
    "jaxsal_converters": ("jaxsal.scan", "jaxsal.cli", "jaxsal.saliency", "jaxsal.field"),
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


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_downward(part: str) -> None:
    inside = {name: tree for name, tree in modules().items() if is_within(name, part)}
    assert inside
    wrong = [
        f"{name} imports {imported}"
        for name, tree in inside.items()
        for imported in imports(tree)
        for forbidden in FORBIDDEN[part]
        if is_within(imported, forbidden)
    ]
    assert wrong == []


def test_there_are_no_import_cycles() -> None:
    edges: dict[str, set[str]] = {}
    for name, tree in modules().items():
        wanted = [i for i in imports(tree) if i.partition(".")[0] in FOLDERS]
        # "package.module.name": the longest part of it that is a module
        found = {i if i in modules() else i.rpartition(".")[0] for i in wanted}
        edges[name] = found - {name, "jaxsal"}  # the package itself loads its parts on first use
        assert edges[name] <= set(modules()), name
    while True:
        leaves = {name for name, targets in edges.items() if not targets & set(edges)}
        if not leaves:
            break
        edges = {name: targets for name, targets in edges.items() if name not in leaves}
    assert edges == {}


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
                    own += ("jaxsal.experiments.settings", "jaxsal.preparation.settings")
                    own += ("jaxsal.saliency.methods",)
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
