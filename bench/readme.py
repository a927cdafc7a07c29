"""The results' section of bench/README.md: plots and tables, from the JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.plot import draw
from bench.record import RESULTS, column_names, device_slug, shown

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: written by `python -m bench plot` -->", "<!-- end of results -->"

Found = dict[str, Any]


def redraw(results: Path = RESULTS, readme: Path = README) -> None:
    """Draws a plot per device beside the results, and rewrites the section between the markers."""
    sections = []
    for slug, found in read_results(results).items():
        picture = results / f"{slug}.png"
        drawn = draw(found, _device(found), picture)
        sections.append(
            _section(found, picture.relative_to(readme.parent).as_posix() if drawn else None)
        )
        if drawn:
            print(f"drawn: {picture}")
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{readme} lacks the lines {BEGIN!r} and {END!r}")
    body = "\n\n".join(sections) or "No results yet."
    readme.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def read_results(folder: Path) -> dict[str, dict[str, Found]]:
    """Results by device and question."""
    found: dict[str, dict[str, Found]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(device_slug(result["machine"]), {})[result["question"]] = result
    return found


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table."""
    columns = column_names(rows)
    lines = [[column.replace("_", " ") for column in columns], ["---"] * len(columns)]
    lines += [[shown(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _device(found: dict[str, Found]) -> str:
    machine = next(iter(found.values()))["machine"]
    host = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    return host if machine["platform"] == "cpu" else f"{machine['device']}; host: {host}"


def _section(found: dict[str, Found], picture: str | None) -> str:
    device = _device(found)
    parts = [f"### {device}", *([f"![Results on {device}]({picture})"] if picture else [])]
    for question, result in found.items():
        versions = result["versions"]
        used = ", ".join(f"{k} {versions[k]}" for k in ("jaxsal", "jax", "torch") if k in versions)
        parts += [
            f"**{question}** ({result['finished'][:10]}; {used})",
            markdown_table(result["rows"]),
            "\n".join(f"- {note}" for note in result["notes"]),
        ]
    return "\n\n".join(parts)
