"""The paper's tables S1 and S2 beside our results: the 48 rows of the scorecard."""

from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import experiments, results
from lrsc.claims.evidence import most_alike
from lrsc.config import STATISTICS
from lrsc.datasets.raw.published import TABLE as PUBLISHED
from lrsc.errors import check_names
from lrsc.experiments import paper as tables

VALUES, SEEDS = 3, 2  # a row is measured with at least so many values, of so many seeds each
MEASURES = tables.MEASURES
CORRECTED = "prunability_corrected"  # beside the paper's own, which depends on the chance level
# differences within which a row counts as met, of a measure's mean at an end of the range
MARGINS = {name: 0.03 if name == "unbiased_accuracy" else 0.1 for name in MEASURES}
DECIDING = ("unbiased_accuracy", "csi", "class_separation")  # by which settings are chosen
# rows of S2 that at their weakest train as the low LR alone does
_WEAK = ("lr", "batch_size", "momentum", "focal_gamma", "asam_rho")
_PSGD = "ResNet50 (PSGD)"
_PART = "a part of the range"


def rows(root: str | Path | None = None, statistics: str | None = None) -> list[dict]:
    """The 24 rows of table S1 and the 24 of S2, each with what is measured of it.

    paper, ours: the range of the swept `value` and of each measure, (low, high) of the means over
    seeds; accuracies are fractions. `ours` has the range covered as its `value`, chance-corrected
    prunability beside the paper's, and is None where the row is not measured. n: training samples.
    Runs outside the paper's range of values, diverged runs and values with fewer than SEEDS seeds
    are left out. profile is 'paper' only with all training data and both ends of the range; apart
    names what else the paper's row has, and may explain a difference. Stand-ins and quick runs
    never count.

    statistics: of batch normalisation, in which networks were evaluated; None: those in which the
    paper's numbers are read, where enough runs were measured so, else 'running'. A row's own
    `statistics` is None where its network has no batch normalisation.
    """
    if statistics is not None:
        check_names("statistics", [statistics], STATISTICS)
    lines = [(name, line) for name in ("S1", "S2") for line in tables.table(name.lower())]
    read = {
        e: experiments.sources(e, root, curves=False) for e in {_place(*line)[0] for line in lines}
    }
    return [_row(table, line, read, statistics) for table, line in lines]


def headline(rows: list[dict], verdicts: list[dict]) -> str:
    """How many rows are measured, at what size, and how many claims have which verdict."""
    measured = [r for r in rows if r["status"] == "measured"]
    full = sum(r["profile"] == "paper" for r in measured)
    away = sum(map(needs_data, rows))
    words = ("supported", "contradicted", "same direction, too few", "no effect seen")
    found = [sum(c["verdict"] == word for c in verdicts) for word in words]
    needing = f"; {away} {'needs' if away == 1 else 'need'} data behind a registration or licence"
    return (
        f"{len(measured)} of {len(rows)} rows of tables S1 and S2 are measured, {full} of them at "
        f"the paper's size{needing if away else ''}. {sum(found)} of {len(verdicts)} claims are "
        f"tested: {found[0]} supported, {found[1]} contradicted; {found[2]} go in the same "
        f"direction with too few rows or seeds, and in {found[3]} no effect is seen."
    )


def needs_data(row: dict) -> bool:
    """Whether a row is not measured and its data are behind a registration or licence."""
    licence = PUBLISHED[row["dataset"]].licence
    return row["status"] == "not measured" and licence == "non-commercial research"


def beside(row: dict, measure: str) -> str:
    """The paper's range of a measure and ours, as text; a dash for what there is not."""
    ends = [r.get(measure) if r else None for r in (row["paper"], row["ours"])]
    return " | ".join("-" if e is None else f"{e[0]:.3g} to {e[1]:.3g}" for e in ends)


def command(row: dict) -> str:
    """What measures a row: its sweep in the desk profile, or in full where no desk run is planned.

    A row whose sweep is done and that is still not measured has lost runs that diverged.
    """
    experiment = _experiment(row["table"], row["dataset"], row["hyperparameter"])
    key = row["dataset"], row["model"], row["hyperparameter"]
    planned = experiments.planned_runs(experiment, "desk", *key)
    profile = "desk" if planned else "paper"
    options = f"--profile {profile} --dataset {key[0]} --model {key[1]}"
    if experiment in ("hyperparameters", "optimizers_schedules"):
        options += f" --hyperparameter {key[2]}"
    return f"lrsc sweep {experiment} {options}"


def unexplained(row: dict) -> list[str]:
    """Measures that differ by more than MARGINS in a row where nothing known may explain it.

    Where a part of the range is measured, at the ends that are.
    """
    if not row["ours"] or set(row["apart"]) - {_PART}:
        return []
    covered = np.isclose(row["ours"]["value"], row["paper"]["value"], rtol=0.01)
    gaps = {m: gap for m in MEASURES if (gap := difference(row, m)) is not None}
    return [m for m, gap in gaps.items() if np.any(np.abs(gap)[covered] > MARGINS[m])]


def difference(row: dict, measure: str) -> tuple[float, float] | None:
    """Our range's ends less the paper's; None where either does not have the measure."""
    paper, ours = (found.get(measure) if found else None for found in (row["paper"], row["ours"]))
    if paper is None or ours is None:
        return None
    return ours[0] - paper[0], ours[1] - paper[1]


def disagreements() -> list[dict]:
    """What tables S1 and S2 say of one setting: ResNet18 at the low LR, all else as usual.

    S1 sweeps the LR from it; S2 does too, and starts its sweeps of batch size, momentum, focal loss
    and ASAM from nearly no effect of these. Of each data set the lower ends of these ranges, with
    the difference from S1's; accuracies are fractions. Empty of data sets whose low LRs differ.
    """
    found = []
    for line in tables.table("s1"):
        others = [r for r in tables.table("s2") if r["dataset"] == line["dataset"]]
        if line["model"] != "ResNet18" or not others or float(line["lr_min"]) != results.LOW_LR:
            continue
        first = {m: r[0] for m, r in tables.ranges(line).items()}
        found.append(_setting("S1", line["dataset"], "lr", first, {}))
        for other in others:
            if (name := tables.INTERVENTIONS[other["hyperparameter"]][0]) in _WEAK:
                low = {m: r[0] for m, r in tables.ranges(other).items()}
                found.append(_setting("S2", line["dataset"], name, low, first))
    return found


def fits(found: xr.Dataset) -> list[dict]:
    """How near settings of Colored MNIST come to the paper's rows of the LR, nearest first.

    found: runs in long form in one of the statistics of batch normalisation. A setting is the
    options of data set and model; each has a fit with the row of S1 of its model and, of ResNet18,
    with that of S2. At the row's smallest LR our mean is compared with the lower end of the paper's
    range, at our largest one (at least half the row's) with the upper end; an end without runs is
    left out, and `ends` says which LRs there are. gaps: by measure, ours less the paper's at each
    of these ends. deciding, following: mean over ends of |gap| / MARGINS, of the measures that
    settings are chosen by (DECIDING) and of the others.
    """
    rows = []
    names = ("model", "data", "model_options", "statistics")
    settings = dict.fromkeys(zip(*(found[n].values.tolist() for n in names), strict=True))
    for setting in settings:
        chosen = np.logical_and.reduce(
            [found[n].values == v for n, v in zip(names, setting, strict=True)]
        )
        here = found.isel(run=chosen & (found["status"].values != "diverged"))
        for table in ("S1", "S2") if setting[0] == "resnet18" else ("S1",):
            if here.sizes["run"] and (row := _fit(here, table)) is not None:
                rows.append(dict(zip(names, setting, strict=True)) | row)
    return sorted(rows, key=lambda row: (row["model"], row["table"], row["deciding"]))


def jointly(fits: list[dict]) -> list[dict]:
    """Settings in which several models were measured, by the mean of their distances from S1.

    fits: rows of `fits`, of all statistics. A setting holds for all models, but for initialisation
    and statistics, which those without batch normalisation do not have. Each with `models`, the
    distance of each by its name, their mean `deciding`, and `ends`, the LRs of the network with
    batch normalisation: only settings with the same ones compare. More ends first, then nearest.
    """
    of_s1 = [row for row in fits if row["table"] == "S1"]
    alone = [row for row in of_s1 if not row["statistics"]]
    found: dict[tuple, dict[str, float]] = {}
    for row in of_s1:
        if row["statistics"]:
            setting = row["data"], row["model_options"], row["statistics"], tuple(row["ends"])
            found.setdefault(setting, {})[row["model"]] = row["deciding"]
    joint = []
    for (data, options, statistics, ends), of in found.items():
        of = {r["model"]: r["deciding"] for r in alone if r["data"] == data} | of
        if len(of) > 1:
            mean = float(np.mean(list(of.values())))
            joint.append({"data": data, "model_options": options, "statistics": statistics,
                          "ends": ends, "models": of, "deciding": mean})  # fmt: skip
    return sorted(joint, key=lambda row: (-len(row["ends"]), row["deciding"]))


def _fit(here: xr.Dataset, table: str) -> dict | None:
    shown = tables.DATASETS["colored_mnist"]
    line = next(
        r for r in tables.table(table.lower())
        if r["dataset"] == shown
        and (r.get("model") == tables.MODELS[str(here["model"].values[0])] if table == "S1"
             else r["hyperparameter"] == "Learning Rate")
    )  # fmt: skip
    paper, lr = tables.ranges(line), here["lr"].values
    low, high = paper["value"]
    ends = [(0, low)] if np.isclose(lr, low, rtol=0.01).any() else []
    ends += [(1, float(lr.max()))] if len(lr) and lr.max() >= high / 2 else []
    if not ends:
        return None
    gaps = {}
    for measure in (m for m in MEASURES if m in paper):
        values = here[measure].values
        gaps[measure] = [
            float(values[np.isclose(lr, at, rtol=0.01)].mean() - paper[measure][end])
            for end, at in ends
        ]
    sized = {m: float(np.mean(np.abs(each))) / MARGINS[m] for m, each in gaps.items()}
    decide = [v for m, v in sized.items() if m in DECIDING]
    follow = [v for m, v in sized.items() if m not in DECIDING]
    return {
        "table": table, "runs": len(lr), "ends": [at for _, at in ends], "gaps": gaps,
        "deciding": float(np.mean(decide)), "following": float(np.mean(follow)),
    }  # fmt: skip


def _setting(table: str, dataset: str, name: str, low: dict, first: dict) -> dict:
    measures = [m for m in MEASURES if m in low]
    return {
        "table": table, "dataset": dataset, "hyperparameter": name, **{m: low[m] for m in measures},
        "difference": {m: low[m] - first[m] for m in measures if m in first},
    }  # fmt: skip


def _row(
    table: str, line: dict[str, str], read: dict[str, list[xr.Dataset]], statistics: str | None
) -> dict:
    experiment, *key = _place(table, line)
    paper = tables.ranges(line)
    row: dict = {
        "table": table, "dataset": key[0], "model": key[1], "hyperparameter": key[2],
        "status": "not measured", "profile": None, "statistics": None, "n": None, "seeds": None,
        "paper": paper, "ours": None, "apart": [],
    }  # fmt: skip
    wanted = [statistics] if statistics else [experiments.PAPER_STATISTICS, "running"]
    for profile in ("paper", "desk"):
        runs = (
            experiments.measured(
                experiment, profile, None, *key, read=read[experiment], statistics=name
            )
            for name in wanted
        )
        measured = [
            _measured(found, profile, paper) for found in map(most_alike, runs)
            if found is not None
        ]  # fmt: skip
        known = [m for m in measured if m is not None]
        # the paper's statistics, where no part of the range is lost with them
        covered = [m for m in known if m["ours"]["value"] == known[-1]["ours"]["value"]]
        if covered:
            return row | covered[0]
    return row


def _place(table: str, line: dict[str, str]) -> tuple[str, str, str, str]:
    """Experiment, data set, model and hyperparameter that measure a row of a table."""
    dataset = next(k for k, v in tables.DATASETS.items() if v == line["dataset"])
    if table == "S2":
        model, name = "resnet18", tables.INTERVENTIONS[line["hyperparameter"]][0]
    elif line["model"] == _PSGD:
        model, name = "resnet50", "psgd_kron_wsd"
    else:
        model, name = next(k for k, v in tables.MODELS.items() if v == line["model"]), "lr"
    return _experiment(table, dataset, name), dataset, model, name


def _experiment(table: str, dataset: str, hyperparameter: str) -> str:
    if table == "S2":
        return "hyperparameters"
    if hyperparameter != "lr":
        return "optimizers_schedules"
    of = {"celeba": "naturalistic", "parity": "synthetic", "moon_star": "synthetic"}
    return of.get(dataset, "semi_synthetic")


def _measured(found: xr.Dataset, profile: str, paper: dict) -> dict | None:
    """What a profile's runs say of a row, None where they are too few."""
    low, high = paper["value"]
    value, good = found["value"].values, found["status"].values != "diverged"
    good &= (value >= low * 0.99) & (value <= high * 1.01)
    name = "worst_group_accuracy" if found["dataset"].values[0] == "celeba" else "unbiased_accuracy"
    seeds = {v: len(set(found["seed"].values[good & (value == v)])) for v in set(value[good])}
    kept = sorted(v for v, n in seeds.items() if n >= SEEDS)
    if len(kept) < VALUES:
        return None
    ours = {"value": (kept[0], kept[-1])}
    for measure in (*paper, CORRECTED):
        variable = name if measure == "unbiased_accuracy" else measure
        if variable in found:
            means = [np.nanmean(found[variable].values[good & (value == v)]) for v in kept]
            ours[measure] = (float(min(means)), float(max(means)))
    whole = bool(np.isclose(kept[0], low, rtol=0.01) and np.isclose(kept[-1], high, rtol=0.01))
    statistics = found["statistics"].values[0] or None
    apart = {
        "fewer training samples": profile != "paper", _PART: not whole,
        f"{statistics} statistics": statistics not in (None, experiments.PAPER_STATISTICS),
    }  # fmt: skip
    return {
        "status": "measured",
        "profile": "paper" if profile == "paper" and whole else "desk",
        "statistics": statistics,
        "apart": [text for text, holds in apart.items() if holds],
        "n": int(found["n_train"].values.min()),
        "seeds": min(seeds[v] for v in kept),
        "ours": {k: tuple(map(float, v)) for k, v in ours.items()},
    }
