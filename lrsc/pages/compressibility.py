"""What the section on compressibility shows: all measured rows, other measures, real shrinking."""

from collections.abc import Callable, Sequence

import xarray as xr

from lrsc import measures, plots, pruning, results
from lrsc.config import RunConfig
from lrsc.pages.display import say, say_row, say_unmeasured, say_unusable, show_cells, show_runs
from lrsc.pages.sections import measured_rows, show_curves, show_pruning
from lrsc.runs import identify, load_checkpoint
from lrsc.studies import compressibilities

OF_ACTIVATIONS = ("activation_compressibility", "sparsity", "pq_index")
OF_FILTERS = ("filter_compressibility", "filter_sparsity", "filter_pq_index")


def show_rows_pruning(*names: str) -> None:
    """Display the pruning curves of both methods for each measured row of these experiments."""
    _show_each(names, measured_rows(*names), show_pruning)


def show_rows_compressibility(*names: str) -> None:
    """Display three measures of activations against LR for each measured row."""
    _show_each(names, measured_rows(*names), lambda found: show_curves(found, OF_ACTIVATIONS))


def show_rows_orders(*names: str) -> None:
    """Display activation compressibility at other q and kappa for each row that has it."""

    def one(found: xr.Dataset) -> None:
        show_runs(found, _EXPORT, "", plots.orders(found, "activation_compressibility_at"))

    _show_each(names, _others(names), one, _EXPORT)


def show_rows_filters(*names: str) -> None:
    """Display measures of the filters' norms against LR for each row that has them.

    Compressibility is that at q = 2 and kappa = 0.1, as for activations.
    """

    def one(found: xr.Dataset) -> None:
        figure = plots.plain_curves(found.sel(q=2.0, kept=0.1), OF_FILTERS)
        show_runs(found, _EXPORT, "", figure)

    _show_each(names, _others(names), one, _EXPORT)


def show_shrinking(config: RunConfig, kappas: Sequence[float] = (0.3, 0.5, 0.7, 0.9)) -> None:
    """Shrink the network of a local run, and display what that saves.

    Each table row removes another share kappa of the filters by column pruning and gives the
    accuracy of the smaller network. The run's weights must be in the results folder, as they are
    after `lrsc.sweep.run`.
    """
    path = results.weights_path(identify(config))
    if not path.is_file():
        return say(
            "*The weights of this run are not here: they stay on the machine that trained it.*"
        )
    network, dataset = load_checkpoint(path, config)
    inputs = dataset.test.inputs(dataset.test.x[:100])
    rows: list[list[str]] = []
    for kappa in kappas:
        shrunk = pruning.shrink(network, kappa, inputs)
        if not rows:
            rows.append(_costs("as trained", network, shrunk.before, dataset))
        rows.append(_costs(f"{kappa:g}", shrunk.model, shrunk.after, dataset))
    heads = ["κ", "Parameters", "Megabytes", "MACs a sample (millions)", "Milliseconds",
             "Unbiased accuracy (%)"]  # fmt: skip
    show_cells(heads, rows)
    names = ", ".join(map(plots.name_of, (config.dataset, config.model)))
    device = next(network.parameters()).device.type
    say(
        f"{names}, learning rate {config.train.lr:g}, seed {config.seed}, source "
        f"{plots.source(dataset.source_id)}. Milliseconds: a forward pass of {len(inputs)} "
        f"samples, median, on the {plots.name_of(device)} of the machine that ran this notebook."
    )


_EXPORT = f"lrsc results export {compressibilities.NAME}"


def _show_each(
    names: Sequence[str], rows: dict[tuple[str, str], xr.Dataset], one: Callable, *after: str
) -> None:
    """Display each row under its own heading; without any row, the commands that measure them.

    after: commands to run after the sweeps.
    """
    for pair, found in rows.items():
        say_row(*pair)
        one(found)
    if not rows:
        raw = " --raw" if after else ""  # which is what they are made from
        say_unmeasured([*(f"lrsc sweep {name} --profile desk{raw}" for name in names), *after])


def _others(names: Sequence[str]) -> dict[tuple[str, str], xr.Dataset]:
    """The rows' other measures, each as an experiment of its own, where there are any."""
    file = results.shipped_path(compressibilities.NAME)
    shown = f"book/results/{file.name}" if file.is_file() else ""
    rows = {}
    for pair, found in measured_rows(*names).items():
        ids = found["run_id"].values.tolist()
        try:
            other = compressibilities.of_runs(ids)
        except ValueError as error:
            say_unusable(str(error), _EXPORT)
            return {}
        if other is not None:
            same = found.isel(run=[ids.index(name) for name in other["run_id"].values])
            other = other.assign_coords({n: same[n] for n in ("status", "profile", "origin")})
            rows[pair] = other.assign_attrs(found.attrs | {"file": shown})
    return rows


def _costs(name: str, network, cost: pruning.Cost, dataset) -> list[str]:
    accuracy = measures.measure(network, dataset, methods=[])["unbiased_accuracy"]
    return [
        name, f"{cost.parameters:,}", f"{cost.bytes / 1e6:.2f}", f"{cost.macs / 1e6:.2f}",
        f"{1000 * cost.seconds:.2f}", f"{100 * float(accuracy):.1f}",
    ]  # fmt: skip
