"""How results are displayed: figures with captions, tables, and what is not measured."""

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import experiments, plots, results
from lrsc.config import RunConfig
from lrsc.runs import identify, load_checkpoint

MEASURES = (
    "unbiased_accuracy", "prunability", "prunability_corrected", "activation_compressibility",
    "csi", "class_separation",
)  # fmt: skip


def show(*figures, caption: str, under: Sequence[str] = ()) -> None:
    """Display figures as wide as the text, one below the other, and a Markdown caption under them.

    under: HTML between them. A figure's label becomes its alternative text. One without pictures
    has the class `drawn`, which a dark page inverts.
    """
    show_html(f"<div>{''.join([*map(_image, figures), *under])}</div>", caption)


def show_runs(ds: xr.Dataset, command: str | None, lead: str, *figures) -> None:
    """Display figures of runs, captioned by a lead and by where the runs are from."""
    show(*figures, caption=f"{lead} {caption_of(ds, command)}".lstrip())


def say(*texts: str) -> None:
    """Display Markdown."""
    from IPython.display import Markdown, display

    display(*map(Markdown, texts))


def say_row(*names: str) -> None:
    """Display names, of a data set and a model for instance, as the heading of what follows."""
    say(f"**{', '.join(map(plots.name_of, names))}**")


def show_html(markup: str, *texts: str) -> None:
    """Display HTML, and Markdown under it."""
    from IPython.display import HTML, Markdown, display

    display(HTML(markup), *map(Markdown, texts))


def show_cells(heads: Sequence[str], rows: Sequence[Sequence[str]], *texts: str) -> None:
    """Display a table of text, and Markdown under it."""
    show_html(html_table(heads, rows), *texts)


def table(ds: xr.Dataset, variables: Sequence[str] = MEASURES) -> str:
    """HTML table, LR x measures, with table S1's ranges; accuracies in percent, as heads say."""
    variables = [name for name in variables if name in ds]
    name = plots.axis_name(ds)
    heads = [name[0].upper() + name[1:], "Runs", *(plots.heading(n, ds) for n in variables)]
    rows = []
    for lr in np.unique(ds["lr"].values):
        here = ds.isel(run=ds["lr"].values == lr)
        valid = int(np.isfinite(here[variables[0]].values).sum())
        cells = [mean_sd(n, here[n].values) for n in variables]
        rows.append([f"{lr:g}", f"{valid}\u00a0of\u00a0{here.sizes['run']}", *cells])
    if reference := plots.paper_range(ds):
        ranges = [span(n, *reference[n]) if n in reference else "–" for n in variables]
        low, high = reference["lr"]
        rows.append([f"paper: {low:g} to {high:g}", "≥\u00a03 each", *ranges])
    return html_table(heads, rows)


def caption_of(ds: xr.Dataset, command: str | None) -> str:
    """Caption with a link to a shipped file, as seen from a page in notebooks/."""
    file = str(ds.attrs.get("file", ""))
    if command is None:
        kinds = ("profile", "dataset", "model", "hyperparameter")
        values = {n: set(ds[n].values.tolist()) for n in kinds if n in ds.coords}
        options = "".join(f" --{n} {min(v)}" for n, v in values.items()
                          if len(v) == 1 and v != {"lr"})  # fmt: skip
        command = f"lrsc sweep {ds.attrs['experiment']}{options}" + (" --raw" if file else "")
    return plots.caption(ds, command, "../")


def trained(runs: Sequence[RunConfig]) -> list[tuple]:
    """The networks of local runs with their data sets; none, which is displayed, if one is gone.

    Nor where one diverged: its weights are no numbers.
    """
    names = [identify(config) for config in runs]
    ended = [results.load_run(results.run_path(name)) for name in names]
    if any(run is not None and run.attrs["status"] == "diverged" for run in ended):
        lrs = ", ".join(f"{config.train.lr:g}" for config in runs)
        say(f"*Nothing to show: a run diverged (LR {lrs}), and its weights are no numbers.*")
        return []
    paths = [results.weights_path(name) for name in names]
    if all(path.is_file() for path in paths):
        return [load_checkpoint(path, config) for path, config in zip(paths, runs, strict=True)]
    what, them = ("this run", "it") if len(runs) == 1 else ("these runs", "them")
    say(f"*The weights of {what} are not here: they stay on the machine that trained {them}.*")
    return []


def say_unusable(why: str, command: str) -> None:
    """Display that a result file is there but cannot be used, and what writes it again."""
    command += " --ship" if "book/results/" in why and "lrsc results" in command else ""
    say(
        f"**Not read:** {why}. What it holds counts as not measured. Move it away and write it "
        f"again with `{command}`."
    )


def show_trial(name: str, display: Callable[[dict, str], None]) -> None:
    """Display what a trial has stored, by `display(found, command)`, or what makes it."""
    command = f"python book/trials/{name}.py"
    path = results.shipped_path(name).with_suffix(".json")
    if not path.is_file():
        return say_unmeasured([command])
    try:
        display(json.loads(path.read_text(encoding="utf-8")), command)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        say_unusable(f"{path.name}: {error}", command)


def usable(command: str, opens: Callable, *args: Any) -> xr.Dataset | None:
    """What `opens(*args)` finds; None, which is displayed, for a file that cannot be used.

    command: what writes the file again.
    """
    try:
        return opens(*args)
    except ValueError as error:
        say_unusable(str(error), command)
        return None


def say_unread(*names: str) -> None:
    """Display which shipped files of these experiments (of all by default) cannot be used."""
    for name, why in experiments.unusable(*names).items():
        say_unusable(why, f"lrsc results export {name}")


def say_absent(ds: xr.Dataset) -> None:
    """Display why runs have nothing to show: all diverged, or it is not measured."""
    if ds.sizes.get("run") and (ds["status"].values == "diverged").all():
        return say(f"*Nothing to show: all {ds.sizes['run']} runs diverged.*")
    return say_unmeasured()


def say_unmeasured(commands: Sequence[str] = ()) -> None:
    """Display that there is nothing to show, and the commands that measure it or say what does."""
    how = ", then ".join(f"`{command}`" for command in commands)
    how = f"Measure it with {how}." if how else "`lrsc status` shows what is missing."
    say(f"*Not measured yet.* {how}")


def _image(figure) -> str:
    data = base64.b64encode(_png(figure)).decode()
    alt = html.escape(figure.get_label(), quote=True)
    kind = ' class="drawn"' if _is_drawn(figure) else ""
    return (
        f'<img src="data:image/png;base64,{data}" alt="{alt}"{kind} '
        'style="display:block;width:100%;height:auto;margin-bottom:0.7rem">'
    )


def _is_drawn(figure) -> bool:
    """Whether a figure is lines and text alone, without a picture."""
    from matplotlib.image import AxesImage

    return not figure.findobj(AxesImage)


def _png(figure) -> bytes:
    """A figure as a file; where it is lines and text, of 256 colours, a third of the size."""
    from PIL import Image

    file, smaller = io.BytesIO(), io.BytesIO()
    figure.savefig(file, format="png", dpi=220)
    if not _is_drawn(figure):
        return file.getvalue()
    picture = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def plain(name: str, value: float) -> str:
    """A value as `plots.number` writes it, without its unit, which the head of the table has."""
    return plots.number(name, value).removesuffix(" %")


def span(name: str, low: float, high: float) -> str:
    """A range of values, without a unit."""
    return f"{plain(name, low)} to {plain(name, high)}"


def mean_sd(name: str, values: np.ndarray) -> str:
    """Mean and, of several, standard deviation of the values there are, without a unit."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    mean, sd = (plain(name, float(v)) for v in plots.mean_and_sd(values))
    return f"{mean}\u00a0±\u00a0{sd}" if len(values) > 1 else mean


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        '<div style="overflow-x:auto"><table class="table" style="font-size:0.85em">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
