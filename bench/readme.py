"""The results' section of bench/README.md: plots and tables, from the JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.plot import draw
from bench.quotes import quoted, restate
from bench.record import (
    RESULTS,
    Found,
    column_names,
    device_slug,
    every_result,
    read_results,
    short_commit,
    shown,
)
from jaxsal.wording import counted

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: written by `python -m bench plot` -->", "<!-- end of results -->"
_VERSIONS = ("jaxsal", "jax", "jaxlib", "torch", "driver", "cuda", "cudnn", "libtpu")


def redraw(results: Path = RESULTS, readme: Path = README) -> None:
    """Draws a plot per device beside the results, and rewrites the section between the markers."""
    by_device = read_results(results)
    sections = []
    for slug, found in by_device.items():
        picture = results / f"{slug}.png"
        drawn = draw(found, _device(found), picture)
        sections.append(
            _section(found, picture.relative_to(readme.parent).as_posix() if drawn else None)
        )
        if drawn:
            print(f"drawn: {picture}")
    if results == RESULTS:
        restate(every_result(by_device))
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{readme} lacks the lines {BEGIN!r} and {END!r}")
    if sections:
        sections.insert(0, _origins(every_result(by_device)))
    body = "\n\n".join(sections) or "No results yet."
    readme.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table."""
    columns = column_names(rows)
    lines = [[column.replace("_", " ") for column in columns], ["---"] * len(columns)]
    lines += [[shown(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _device(found: dict[str, Found]) -> str:
    return _machine(next(iter(found.values()))["machine"])


def _machine(machine: Found) -> str:
    cores = counted(machine["cores"], "core")
    host = f"{machine['cpu']}, {cores}, {machine['memory_gib']} GiB"
    if machine["platform"] == "cpu":
        return host
    count = machine.get("devices", 1)
    return f"{f'{count} × ' if count > 1 else ''}{machine['device']}; host: {host}"


def _origins(results: Sequence[Found]) -> str:
    """The table of what each figure was measured with."""
    rows = [
        {"figure": f"all of **{result['question']}**", "stands in": "below", **_origin(result)}
        for result in results
    ]
    for quote, found, figure in quoted(results):
        words = quote.words.replace("{}", f"**{figure}**").replace("|", "").strip()
        origin = _origin(found)
        origin["result"] += f": {quote.place}"
        rows.append({"figure": words, "stands in": quote.page, **origin})
    return f"### Where each figure comes from\n\n{markdown_table(rows)}"


def _origin(found: Found) -> Found:
    name = f"{found['question']}-{device_slug(found['machine'])}.json"
    return {
        "result": f"[{found['question']}](results/{name})",
        "commit": short_commit(found),
        "versions": _versions(found),
        "machine": _machine(found["machine"]),
        "measured": found["finished"][:10],
    }


def _versions(found: Found) -> str:
    versions = found["versions"]
    return ", ".join(f"{name} {versions[name]}" for name in _VERSIONS if name in versions)


def _section(found: dict[str, Found], picture: str | None) -> str:
    device = _device(found)
    parts = [f"### {device}", *([f"![Results on {device}]({picture})"] if picture else [])]
    for question, result in found.items():
        commit = short_commit(result)
        parts += [
            f"**{question}** ({result['finished'][:10]}; commit {commit}; {_versions(result)})",
            markdown_table(result["rows"]),
            "\n".join(f"- {note}" for note in result["notes"]),
        ]
    return "\n\n".join(parts)
