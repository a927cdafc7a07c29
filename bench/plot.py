"""Plots of the results: a figure per device, a panel per question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # the backend is chosen first
from matplotlib.axes import Axes

from bench.record import Found, shown

_OURS, _THEIRS = "#c0392b", "#7f8c8d"
_COLUMNS = 2


def draw(results: dict[str, Found], device: str, path: Path) -> bool:
    """Draws the results of one device, by question, into a PNG file; false if none can be drawn."""
    panels = [(name, panel) for name, panel in _PANELS.items() if name in results]
    if not panels:
        return False
    rows = -(-len(panels) // _COLUMNS)
    figure, grid = plt.subplots(
        rows, _COLUMNS, figsize=(13, 4.2 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (name, panel) in zip(grid.flat, panels, strict=False):
        panel(axes, results[name])
    figure.suptitle(device)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _peers(axes: Axes, found: Found) -> None:
    rows = found["rows"][::-1]
    names = [row["peer"].replace(" (", "\n(") for row in rows]
    values = [row["ms_per_gradient"] for row in rows]
    colours = [_OURS if name.startswith("jaxsal") else _THEIRS for name in names]
    bars = axes.barh(names, values, color=colours)
    ratios = [f" {row['ms_per_gradient']:.3g} ms, {row['times_jaxsal_whole']:.3g}×" for row in rows]
    axes.bar_label(bars, ratios, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 6)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("ms per voxel and noise sample; × jaxsal, whole volume")
    axes.set_title("Cost of a gradient: jaxsal and its peers")


def _scaling(axes: Axes, found: Found) -> None:
    memory = axes.twinx()
    for varied in dict.fromkeys(row["varied"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["varied"] == varied]
        values = [row["value"] for row in rows]
        (line,) = axes.plot(
            values, [r["ms_per_gradient"] for r in rows], "o-", label=varied.replace("_", " ")
        )
        peaks = [r["peak_memory_gib"] for r in rows]
        memory.plot(values, peaks, "x:", color=line.get_color())
    axes.set_xscale("log", base=2)
    for side in (axes, memory):
        side.set_ylim(0, 1.35 * side.get_ylim()[1])  # room for the legend
    axes.set_xlabel("number of")
    axes.set_ylabel("ms per gradient (lines)")
    memory.set_ylabel("peak memory, GiB (dotted)")
    axes.legend(fontsize=8)
    axes.set_title("Cost and memory against the job's size")


def _precision(axes: Axes, found: Found) -> None:
    for row in found["rows"]:
        point = row["ms_per_gradient"], row["map_error"]
        axes.plot(*point, "o", color=_OURS)
        axes.annotate(row["precision"], point, xytext=(6, 4), textcoords="offset points")
    axes.set_yscale("log")
    axes.margins(0.3)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms per gradient")
    axes.set_ylabel("relative L2 error of the map")
    axes.set_title("Precision, against PyTorch in float64")


def _approximations(axes: Axes, found: Found) -> None:
    rows = [row for row in found["rows"] if row["approximation"] != "exact"]
    for voxels in sorted({row["lesion_voxels"] for row in rows}):
        own = [row for row in rows if row["lesion_voxels"] == voxels]
        names = [row["approximation"].replace("_", " ") for row in own]
        axes.plot(names, [row["map_error"] for row in own], "o", label=f"{voxels} voxels: map")
        errors = [abs(row["peak_error"]) for row in own]
        axes.plot(names, errors, "x", color=axes.lines[-1].get_color(), label="its peak")
    axes.tick_params(axis="x", rotation=35, labelsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("relative error")
    axes.legend(fontsize=8)
    axes.set_title("Approximations, against the exact map")


def _devices(axes: Axes, found: Found) -> None:
    rows = found["rows"]
    axes.bar([str(row["devices"]) for row in rows], [row["speed_up"] for row in rows], color=_OURS)
    axes.set_xlabel("devices" + (" (faked on one CPU)" if found["settings"]["fake"] else ""))
    axes.set_ylabel("speed-up")
    axes.set_title("Several devices")


def _compilation(axes: Axes, found: Found) -> None:
    rows = found["rows"]
    names = [f"{row['field']},\n{row['cache']} cache" for row in rows]
    warm, overhead = ([row[k] for row in rows] for k in ("warm_call_s", "overhead_s"))
    axes.bar(names, warm, color=_OURS, label="the computation")
    axes.bar(names, overhead, bottom=warm, color=_THEIRS, label="compiling, or reading the cache")
    axes.set_ylabel("seconds of the first call")
    axes.legend(fontsize=8)
    axes.set_title("The first call")


def _roofline(axes: Axes, found: Found) -> None:
    settings = found["settings"]
    operations, traffic = settings["gflop_per_s"], settings["gbyte_per_s"]
    *layers, total = found["rows"]
    intensities = [row["flop_per_byte"] for row in found["rows"]] + [operations / traffic]
    edge = [min(intensities) / 2, operations / traffic, 4 * max(intensities)]
    axes.plot(edge, [min(operations, traffic * x) for x in edge], "k-", label="measured ceilings")
    for row in layers:
        x = row["flop_per_byte"]
        y = min(operations, traffic * x)
        axes.plot(x, y, "o", color=_THEIRS)
        axes.annotate(row["layer"], (x, y), xytext=(0, -12), textcoords="offset points", fontsize=7)
    reached = total["mflop"] / total["measured_ms"]
    label = f"pull-back: {100 * total['share_of_roofline']:.0f} % of the roofline"
    axes.plot(total["flop_per_byte"], reached, "*", color=_OURS, markersize=14, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOP per byte")
    axes.set_ylabel("GFLOP/s")
    axes.legend(fontsize=8)
    axes.set_title("Roofline")


def _paper_scan(axes: Axes, found: Found) -> None:
    rows = found["rows"]
    names = [" ".join([row["field"], *_how(row)]) for row in rows]
    bars = axes.barh(names, [row["scan_s"] for row in rows], color=_OURS)
    axes.bar_label(bars, [f" {row['scan_s']:,.0f} s" for row in rows])
    axes.set_xlim(right=1.3 * max(row["scan_s"] for row in rows))
    parts = [row for row in rows if row.get("share_of_the_scan", 1) < 1]
    axes.set_xlabel("seconds, from a part of the job" if parts else "seconds")
    axes.set_title("A scan of 48 lesions × 93 voxels, N = 50")


def _how(row: Found) -> list[str]:
    """Whether it was measured or predicted; results of before there were forecasts do not say."""
    return [f"({row['how']})"] if "how" in row else []


def _networks(axes: Axes, found: Found) -> None:
    rows = found["rows"]
    places = range(len(rows))
    for shift, name, colour in ((-0.2, "jaxsal", _OURS), (0.2, "pytorch", _THEIRS)):
        values = [row[f"{name}_ms_per_gradient"] for row in rows]
        axes.bar([p + shift for p in places], values, 0.4, color=colour, label=name)
    names = [f"{row['network'].partition(',')[0]}, {row['window']}³" for row in rows]
    axes.set_xticks(places, names, rotation=35, ha="right", fontsize=8)
    axes.set_yscale("log")
    axes.set_ylabel("ms per voxel and noise sample")
    axes.legend(fontsize=8)
    axes.set_title("The paper's networks, on one window")


def _gradcam(axes: Axes, found: Found) -> None:
    rows = found["rows"][::-1]
    names = [f"{row['network']}, {row['layer']}" for row in rows]
    bars = axes.barh(names, [row["relative_difference"] or 0 for row in rows], color=_OURS)
    axes.bar_label(bars, [f" {shown(row['relative_difference'])}" for row in rows], fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("relative L2 difference from the exact map")
    axes.set_title("Closed form of Grad-CAM++")


_PANELS: dict[str, Callable[[Axes, Found], None]] = {
    "peers": _peers,
    "networks": _networks,
    "paper_scan": _paper_scan,
    "scaling": _scaling,
    "roofline": _roofline,
    "precision": _precision,
    "approximations": _approximations,
    "devices": _devices,
    "compilation": _compilation,
    "gradcam": _gradcam,
}
