"""What the book shows of a data set: samples, counts, where it is from."""

import numpy as np
import torch

from lrsc import plots
from lrsc.datasets.raw import published
from lrsc.pages.display import say, show, show_cells


def show_examples(dataset, n: int = 10) -> None:
    """Display samples of a data set, aligned and conflicting, with the source in the caption."""
    known = dataset.train.bias is not None
    lead = f"Training samples with their class{' / bias label' if known else ''}."
    caption = f"{lead} Source {plots.source(dataset.source_id)}, {len(dataset.train):,} samples."
    show(plots.examples(dataset, n), caption=caption)


def show_card(dataset) -> None:
    """Display a data set's origin: source as loaded, shapes, licence, citation, how to get it."""
    names = published.TABLE[dataset.name].needs or [dataset.name]
    origin = {name: published.TABLE[name] for name in names}
    splits = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    said = {
        "Loaded from": plots.source(dataset.source_id).replace("`", ""),
        "Samples": ", ".join(f"{len(s):,} {k}" for k, s in splits.items() if s is not None),
        "Input": " × ".join(map(str, dataset.input_shape)),
        "Classes": f"{dataset.n_classes}: {', '.join(dataset.class_names[:10])}"
        + (", ..." if dataset.n_classes > 10 else ""),
        "Published data": "; ".join(f"{k}: {d.citation}" for k, d in origin.items() if d.citation)
        or "none: generated from the data seed",
        "Licence": "; ".join(f"{k}: {d.licence}" for k, d in origin.items() if d.licence)
        or "none needed: made by this software (MIT)",
        "Home": "; ".join(d.homepage for d in origin.values() if d.homepage),
        "Get it": "; ".join(f"lrsc data get {k}" for k, d in origin.items() if d.fetched),
    }
    show_cells(["", dataset.name], [[k, v] for k, v in said.items() if v])


def show_counts(dataset) -> None:
    """Display how many samples each (class, bias) group has, in the training and the test set."""
    if dataset.train.bias is None:
        per_class = torch.bincount(dataset.train.y, minlength=dataset.n_classes)
        fewest, most = int(per_class.min()), int(per_class.max())
        each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        text = f"{len(dataset.train):,} training samples, {each} per class; no bias labels."
        return say(text)
    train, test = dataset.train, dataset.test
    tables = [_counts(split, dataset.n_classes) for split in (train, test)]
    conflicting = int(train.conflicting.sum())
    fewest, most = int(tables[1].min()), int(tables[1].max())
    each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    text = (
        f"{len(train):,} training samples, of which {conflicting:,} conflict "
        f"(ρ = {dataset.rho:.4f}); {len(test):,} test samples, {each} in each (class, bias) group. "
        "Rows: class y; columns: bias b; cells: number of training samples."
    )
    heads = ["y \\ b", *map(str, range(dataset.n_classes))]
    rows = [[str(y), *(f"{n:,}" for n in row)] for y, row in enumerate(tables[0].tolist())]
    say(text)
    show_cells(heads, rows)


def _counts(split, n: int) -> np.ndarray:
    index = (split.y * n + split.bias).cpu().numpy()
    return np.bincount(index, minlength=n * n).reshape(n, n)
