"""What a compiler said of a program, kept so that an unchanged program is not compiled again."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jax.stages import Compiled, Lowered

from bench.record import package_versions

_COMPILERS = ("jax", "jaxlib", "libtpu")
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


@dataclass(frozen=True)
class Verdict:
    """What a compiler said of a program.

    Attributes:
        seconds: that compiling took.
        temporary: bytes besides arguments and results.
        results: bytes of results that do not take an argument's place.
        flop: operations; 0 where it does not say.
        moved: bytes read and written; 0 where it does not say.
        text: the optimised HLO.
    """

    seconds: float
    temporary: int
    results: int
    flop: float
    moved: float
    text: str


def add_kept_option(parser: argparse.ArgumentParser) -> None:
    """Lets the user name the folder."""
    parser.add_argument(
        "--kept",
        type=Path,
        metavar="DIR",
        help="folder that keeps what compilers say, so that no program is compiled twice",
    )


def verdict_on(
    lowered: Lowered, target: str, options: Mapping[str, Any] | None, folder: Path | None = None
) -> Verdict:
    """Compiles a program, unless the folder holds what the same compiler said of it.

    Args:
        lowered: the program.
        target: the device's name.
        options: of the compiler.
        folder: where verdicts are kept, by all that the compiler is given; None: nowhere.
    """
    if folder is None:
        return _compiled(lowered)
    known = kept_verdict(lowered, target, options, folder)
    if known is not None:
        return known
    verdict, path = _compiled(lowered), _path(lowered, target, options, folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(gzip.compress(json.dumps(asdict(verdict)).encode()))
    part.replace(path)
    return verdict


def kept_verdict(
    lowered: Lowered, target: str, options: Mapping[str, Any] | None, folder: Path
) -> Verdict | None:
    """What the folder holds of a program, if it does."""
    path = _path(lowered, target, options, folder)
    if not path.exists():
        return None
    return Verdict(**json.loads(gzip.decompress(path.read_bytes())))


def _compiled(lowered: Lowered) -> Verdict:
    before = time.perf_counter()
    compiled: Compiled = lowered.compile()
    seconds = time.perf_counter() - before
    memory: Any = compiled.memory_analysis()
    said = compiled.cost_analysis() or {}
    return Verdict(
        seconds=seconds,
        temporary=memory.temp_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        flop=max(said.get("flops", 0), 0),
        moved=said.get("bytes accessed", 0),
        text=compiled.as_text() or "",
    )


def _path(lowered: Lowered, target: str, options: Mapping[str, Any] | None, folder: Path) -> Path:
    versions = {name: package_versions().get(name) for name in _COMPILERS}
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    given = json.dumps([target, dict(options or {}), versions, variables])
    key = hashlib.sha256(f"{given}\n{lowered.as_text()}".encode()).hexdigest()[:32]
    return folder / f"{key}.json.gz"
