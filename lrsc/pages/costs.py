"""What the results took to compute, and what rows would take that were never measured."""

import numpy as np

from lrsc import experiments, plots, results
from lrsc.experiments.rows import Row
from lrsc.pages.display import say, show_cells, show_trial
from lrsc.pages.sections import shipped_runs
from lrsc.pages.studies import benchmark

# training images as published, of the sets that only their own homes may hand out
PUBLISHED = {"celeba": 162_770, "waterbirds": 4_795, "imagenet": 1_281_167}
_NEEDED = {"batch", "ms_a_step", "gflop_a_step", "peak_mb"}
PAPER = "The paper reports 400 hours on four A100 GPUs for all its experiments."


def show_computing() -> None:
    """Display how long the runs behind the shipped results took, by profile and device."""
    hours = computing()
    if not hours:
        return say("*No results ship with this book.*")
    rows = [
        [profile, device, f"{n:,}", f"{seconds / 3600:.1f}"]
        for (profile, device), (n, seconds) in hours.items()
    ]
    runs, seconds = map(sum, zip(*hours.values(), strict=True))
    rows.append(["all", "", f"{runs:,}", f"{seconds / 3600:.1f}"])
    text = (
        "Each run counts once, from first step to last measure; runs trained side by side count in "
        f"full. {PAPER}"
    )
    show_cells(["Profile", "Device", "Runs", "Hours"], rows, text)


def computing() -> dict[tuple[str, str], tuple[int, float]]:
    """(profile, device) -> number of runs whose results ship, and the seconds they took in all."""
    found: dict[tuple[str, str], list[float]] = {}
    for of in shipped_runs("wall_seconds"):
        # older results left out what was trained before a checkpoint
        seconds = np.fmax(of["wall_seconds"].values, of["train_seconds"].values)
        devices = of["device_name"].values
        for text, device, took in zip(of["config"].values, devices, seconds, strict=True):
            profile = experiments.profile_of(results.parsed(text))
            found.setdefault((profile, str(device)), []).append(took)
    return {key: (len(took), float(np.nansum(took))) for key, took in sorted(found.items())}


def show_engines() -> None:
    """Display whether the engine changes what is measured: equal seeds trained by two engines."""
    show_trial("engines", lambda found, _: say(_of_engines(found)))


def _of_engines(found: dict) -> str:
    values = {name: 100 * np.array(v) for name, v in found["unbiased_accuracy"].items()}
    each = "; ".join(f"{name} {v.mean():.1f} ± {v.std(ddof=1):.1f} %" for name, v in values.items())
    return (
        f"{plots.name_of(found['dataset'])}, {plots.name_of(found['model'])}, LR {found['lr']:g}, "
        f"{found['n_train']:,} training samples, {len(next(iter(values.values())))} seeds: "
        f"unbiased accuracy (mean and standard deviation): {each}. One seed differs by up to "
        f"{100 * found['largest_difference']:.1f} points between them, because training at a large "
        "LR amplifies rounding errors. Tests for equal means (Welch) and spreads (Levene) give "
        f"p = {found['equal_means_p']:.2f} and p = {found['equal_spreads_p']:.2f}."
    )


def show_cost(experiment: str) -> None:
    """Display what an experiment's paper profile takes at most, from the step times measured here.

    Steps are those of all epochs up to the cap; arithmetic is counted, time and memory are measured
    (benchmarks/step_times).
    """
    if (measured := benchmark("step_times", input="3 x 224 x 224")) is None:
        return
    rows = [
        cells
        for row in experiments.EXPERIMENTS[experiment]
        if "paper" in row.plans and (cells := _cost(row, measured["rows"]))
    ]
    machine = measured["machine"]
    heads = ["Data set", "Network", "Runs", "Maximum epochs", "Steps per run", "Step (ms)",
             "Maximum of all (hours)", "Arithmetic of all (PFLOP)", "Memory (GB)"]  # fmt: skip
    show_cells(
        heads, rows,
        f"Step time and memory measured on {machine.get('device', 'an unknown device')}, "
        f"{machine.get('cores', 'unknown')} cores, 224 × 224 pixels, batch 16; training only. "
        "Nothing was measured on a GPU: "
        f"`lrsc sweep {experiment} --profile paper --estimate` times a few steps on yours and "
        "prints the same estimate.",
    )  # fmt: skip


def _cost(row: Row, measured: list[dict]) -> list[str] | None:
    plan, samples = row.plans["paper"], PUBLISHED.get(row.dataset)
    step = next((m for m in measured if m.get("model") == row.model), None)
    if samples is None or step is None or not step.keys() >= _NEEDED:
        return None
    runs, steps = len(plan.values) * len(plan.seeds), plan.max_epochs * (samples // step["batch"])
    return [
        plots.name_of(row.dataset), plots.name_of(row.model), str(runs), f"{plan.max_epochs}",
        f"{steps:,}", f"{step['ms_a_step']:,.0f}",
        f"{runs * steps * step['ms_a_step'] / 3.6e6:,.0f}",
        f"{runs * steps * step['gflop_a_step'] / 1e6:,.0f}", f"{step['peak_mb'] / 1000:.1f}",
    ]  # fmt: skip
