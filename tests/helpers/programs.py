"""Programs as ``torch.export.save`` writes them, of small modules, and changed ones."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch

Target = TypeVar("Target", Path, BinaryIO)


def save_program(
    module: torch.nn.Module,
    path: Target,
    *examples: Any,
    plain: bool = True,
    training: bool = False,
    **options: Any,
) -> Target:
    """Exports a module and saves it.

    Args:
        module: what is exported, in evaluation mode.
        path: of the file, or what takes its content; it is returned.
        examples: what it is called with; by default one image (1, 2, 4, 4, 4).
        plain: without operations in place.
        training: in training mode instead.
        options: of ``torch.export.export``.
    """
    given = examples or (torch.randn(1, 2, 4, 4, 4),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module.train(training), given, strict=False, **options)
        torch.export.save(exported.run_decompositions({}) if plain else exported, path)
    return path


def changed_program(path: Path, changes: Mapping[str, Any]) -> Path:
    """A copy beside a program with some entries changed.

    Args:
        path: of the program.
        changes: by the end of the entry's name: new content, None to leave it out, or a function
            that changes what its JSON holds.
    """
    other = path.with_name(f"changed-{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for info in old.infolist():
            content: Any = old.read(info)
            for name, change in changes.items():
                if info.filename.endswith(name):
                    content = _changed(content, change)
            if content is not None:
                new.writestr(info.filename, content)
    return other


def _changed(content: bytes, change: bytes | Callable[[Any], None] | None) -> bytes | None:
    if not callable(change):
        return change
    document = json.loads(content)
    change(document)
    return json.dumps(document).encode()
