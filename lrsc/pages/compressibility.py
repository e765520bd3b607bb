"""What the section on compressibility shows: all measured rows, other measures, real shrinking."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from lrsc import errors, measures, plots, pruning, results
from lrsc.config import RunConfig
from lrsc.pages import display, readings
from lrsc.pages.sections import measured_rows
from lrsc.studies import compressibilities

OF_ACTIVATIONS = ("activation_compressibility", "sparsity", "pq_index")
PRUNABLE = ("prunability", "prunability_corrected", "prunability_magnitude")
OF_FILTERS = ("filter_compressibility", "filter_sparsity", "filter_pq_index")


def show_rows(what: str, *names: str) -> None:
    """Display one of `KINDS` of every measured row of these experiments, as small multiples.

    what: 'pruning' (the curves of both methods), 'compressibility' (three measures of activations
    against LR), 'orders' (activation compressibility at other q and kappa) or 'filters' (measures
    of the filters' norms). Without any row, displays the commands that measure them.
    """
    errors.check_names("what", [what], KINDS)
    of_raw_material, lead, draw, reading = KINDS[what]
    found = measured_rows(*names)
    found = _others(found) if of_raw_material else found
    rows = plots.rows_of(found.values())
    rows = [row for row in rows if len(np.unique(row["lr"].values)) > 1]
    if not rows:
        raw, after = (" --raw", [_EXPORT]) if of_raw_material else ("", [])
        sweeps = [f"lrsc sweep {name} --profile desk{raw}" for name in names]
        return display.say_unmeasured([*sweeps, *after])
    command = _EXPORT if of_raw_material else "lrsc sweep " + "` and `lrsc sweep ".join(names)
    lead += ", of every row that has more than one learning rate."
    display.show_runs(results.concat(rows).assign_attrs(rows[0].attrs), command, lead, draw(rows))
    display.say(reading(rows))


def _filters(rows: Sequence[xr.Dataset]):
    """Compressibility is that at q = 2 and kappa = 0.1, as for activations."""
    return plots.curves([row.sel(q=2.0, kept=0.1) for row in rows], OF_FILTERS)


def _higher(variables: Sequence[str]) -> Callable[[Sequence[xr.Dataset]], str]:
    return lambda rows: readings.of_rows(rows, variables)


_AT = "activation_compressibility_at"
# whether made from raw material, what is drawn, the figure of rows, and what it shows
KINDS: dict[str, tuple[bool, str, Callable, Callable]] = {
    "pruning": (False, "Unbiased accuracy after pruning", plots.pruning_curves, _higher(PRUNABLE)),
    "compressibility": (False, "Three measures of the activations",
                        lambda rows: plots.curves(rows, OF_ACTIVATIONS), _higher(OF_ACTIVATIONS)),
    "orders": (True, "Activation compressibility at other orders and shares",
               lambda rows: plots.orders(rows, _AT), lambda rows: readings.of_orders(rows, _AT)),
    "filters": (True, "Three measures of the norms of filters", _filters, _higher(OF_FILTERS)),
}  # fmt: skip


def show_shrinking(config: RunConfig, kappas: Sequence[float] = (0.3, 0.5, 0.7, 0.9)) -> None:
    """Shrink the network of a local run, and display what that saves.

    Each table row removes another share kappa of the filters by column pruning and gives the
    accuracy of the smaller network. The run's weights must be in the results folder, as they are
    after `lrsc.sweep.run`.
    """
    loaded = display.trained([config])
    if not loaded:
        return
    network, dataset = loaded[0]
    inputs = dataset.test.inputs(dataset.test.x[:100])
    rows: list[list[str]] = []
    for kappa in kappas:
        shrunk = pruning.shrink(network, kappa, inputs)
        if not rows:
            rows.append(_costs("as trained", network, shrunk.before, dataset))
        rows.append(_costs(f"{kappa:g}", shrunk.model, shrunk.after, dataset))
    heads = ["κ", "Parameters", "Megabytes", "MACs a sample (millions)", "Milliseconds",
             "Unbiased accuracy (%)"]  # fmt: skip
    names = ", ".join(map(plots.name_of, (config.dataset, config.model)))
    device = next(network.parameters()).device.type
    display.show_cells(
        heads, rows,
        f"{names}, learning rate {config.train.lr:g}, seed {config.seed}, source "
        f"{plots.source(dataset.source_id)}. Milliseconds: a forward pass of {len(inputs)} "
        f"samples, median, on the {plots.name_of(device)} of the machine that ran this notebook.",
    )  # fmt: skip


_EXPORT = f"lrsc results export {compressibilities.NAME}"


def _others(measured: dict[tuple[str, str], xr.Dataset]) -> dict[tuple[str, str], xr.Dataset]:
    """The rows' other measures, each as an experiment of its own, where there are any."""
    file = results.shipped_path(compressibilities.NAME)
    shown = f"book/results/{file.name}" if file.is_file() else ""
    rows = {}
    for pair, found in measured.items():
        ids = found["run_id"].values.tolist()
        try:
            other = compressibilities.of_runs(ids)
        except ValueError as error:
            display.say_unusable(str(error), _EXPORT)
            return {}
        if other is not None:
            same = found.isel(run=[ids.index(name) for name in other["run_id"].values])
            names = ("status", "profile", "origin", "statistics", "hyperparameter", "n_train")
            other = other.assign_coords({n: same[n] for n in names if n in same.coords})
            rows[pair] = other.assign_attrs(found.attrs | {"file": shown})
    return rows


def _costs(name: str, network, cost: pruning.Cost, dataset) -> list[str]:
    accuracy = measures.measure(network, dataset, methods=[])["unbiased_accuracy"]
    return [
        name, f"{cost.parameters:,}", f"{cost.bytes / 1e6:.2f}", f"{cost.macs / 1e6:.2f}",
        f"{1000 * cost.seconds:.2f}", f"{100 * float(accuracy):.1f}",
    ]  # fmt: skip
