"""Figures of what the benchmarks measure."""

from collections.abc import Mapping, Sequence
from typing import Any

from lrsc.plots.frame import TEXT, legend_above, new_panels
from lrsc.plots.words import name_of


def throughput(rows: Sequence[Mapping[str, Any]]):
    """Training steps per second against the number of runs side by side, one panel per model.

    ``rows``: as benchmarks/replicas.py prints them; those of engine 'sequential' are the loop that
    trains one run after the other, drawn as a line across. ``floor_arithmetic`` and
    ``floor_bytes``: what no training can exceed. Raises ValueError for no measured rows.
    """
    rows = [row for row in rows if row["steps_per_second"] is not None]
    if not rows:
        raise ValueError("no measured rows: run benchmarks/replicas.py first")
    cases = list(dict.fromkeys((row["dataset"], row["model"]) for row in rows))
    figure, panels = new_panels(len(cases), 1.9)
    said = []
    for axes, case in zip(panels, cases, strict=True):
        of_case = [row for row in rows if (row["dataset"], row["model"]) == case]
        loop = [row["steps_per_second"] for row in of_case if row["engine"] == "sequential"]
        side = [row for row in of_case if row["engine"] != "sequential"]
        side.sort(key=lambda row: row["replicas"])
        counts, rates = ([row[k] for row in side] for k in ("replicas", "steps_per_second"))
        floors = {
            "bound by arithmetic": (of_case[0]["floor_arithmetic"], "--"),
            "bound by bytes": (of_case[0]["floor_bytes"], ":"),
        }
        axes.plot(counts, rates, "o-", color="#0072B2", label="side by side")
        if loop:
            axes.axhline(loop[0], color="#D55E00", lw=1.6, label="one after the other")
        for label, (value, dashes) in floors.items():
            axes.axhline(value, color="0.35", ls=dashes, lw=1.2, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlim(0.8, 80)
        axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
        axes.minorticks_off()
        shown = [*rates, *loop, *(value for value, _ in floors.values())]
        axes.set_ylim(min(shown) / 1.6, max(shown) * 1.6)
        title = ", ".join(map(name_of, case))
        axes.set_title(title, fontsize=TEXT, loc="left")
        said.append(f"{title}: {rates[0]:.3g} at {counts[0]}, "
                    f"{rates[-1]:.3g} at {counts[-1]} runs.")  # fmt: skip
    figure.supxlabel("runs side by side", fontsize=TEXT)
    figure.supylabel("steps / s", fontsize=TEXT)
    legend_above(figure, panels[0], ncols=2)
    figure.set_label(
        f"{len(cases)} line plots, log axes: training steps a second against the number of "
        "runs side by side, with the rate of one run after the other and two upper bounds. "
        + " ".join(said)
    )
    return figure
