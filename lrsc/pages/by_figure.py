"""The paper's figures and tables one by one: what is measured of each, and whether it agrees."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import experiments, plots, results, significance
from lrsc.claims import evidence
from lrsc.experiments import paper

AGREES = {"supported": True, "contradicted": False, "no effect seen": False}
NOTHING = {
    "measured": "fewer than two learning rates are measured", "quick only": "not measured yet",
    "absent": "not measured yet", "shown": "nothing to test",
}  # fmt: skip
_NAMED = re.compile(r"\b(?:figure|table)s? (S?\d+(?:(?:, | and | to )S?\d+)*)", re.IGNORECASE)


def figures(verdicts: Sequence[dict], root: str | Path | None = None) -> list[dict]:
    """The paper's 36 figures and two tables: `figure`, `content` and `page`, and what is found.

    verdicts: of `claims.verdicts`. status: 'measured', 'quick only', 'shown' (nothing to measure)
    or 'absent'. sources, sizes: of the runs behind it, data sources and training samples. agrees:
    'agrees' or 'disagrees', both also 'in part', or 'cannot be said'; `why` says it in a sentence.
    A measure agrees in a row where it rises from the smallest to the largest LR by more than its
    seeds vary (`significance.summed`), and disagrees where it falls so; a fall within that leaves
    no more than a part, as does a part that says nothing. A claim agrees where it is supported.
    """
    opened, claims = evidence.Open(root), {c["id"]: c for c in verdicts}
    return [_figure(line, opened, claims) for line in paper.table("figures")]


def named(text: str) -> list[str]:
    """The figures and tables of the paper that a text names, as in 'figures 31 to 33'."""
    found: list[str] = []
    for match in _NAMED.finditer(text):
        for part in re.findall(r"S?\d+(?: to \d+)?", match[1]):
            first, _, last = part.partition(" to ")
            found += map(str, range(int(first), int(last) + 1)) if last else [first]
    return found


def sizes(opened: evidence.Open, name: str, key: evidence.Key) -> list[xr.Dataset]:
    """A row's results at each size of its training set, once; quick runs never."""
    found: dict[tuple, xr.Dataset] = {}
    for profile in evidence.PROFILES:
        ds = opened(name, profile, key)
        if ds is not None:
            found.setdefault(tuple(np.unique(ds["n_train"].values)), ds)
    return list(found.values())


def _figure(line: dict[str, str], opened: evidence.Open, claims: dict[str, dict]) -> dict:
    keys = list(_keys(line["rows"]))
    of_keys = [sizes(opened, *key) for key in keys]
    rows = [ds for of_key in of_keys for ds in of_key]
    made = list(_derived(line["rows"]))
    of_measures = [_of_measure(of_keys, name) for name in line["measures"].split()]
    parts = [part for part in of_measures if part]
    silent = [None] * of_measures.count(None)
    parts += [p for name in line["claims"].split() if (p := _of_claim(claims.get(name)))]
    status = "measured"
    if not rows + made:
        quick = any(opened(name, "quick", key) is not None for name, key in keys)
        status = "quick only" if quick else "absent" if line["rows"] or line["note"] else "shown"
    parts = parts if status == "measured" else []
    why = "; ".join(text for text, _ in parts) or ("" if line["note"] else NOTHING[status])
    return {
        **{name: line[name] for name in ("figure", "content", "page")}, "status": status,
        "sources": _each(rows + made, "source_id"), "sizes": _each(rows + made, "n_train"),
        "agrees": _word([*(agrees for _, of in parts for agrees in of), *silent]),
        "why": f"{why and f'{why[0].upper()}{why[1:]}. '}{line['note']}".strip(),
    }  # fmt: skip


def _keys(patterns: str) -> Iterator[tuple[str, evidence.Key]]:
    """Experiments and rows that patterns such as 'synthetic/*/fcn/lr' stand for."""
    for pattern in (p for p in patterns.split() if "/" in p):
        name, _, rest = pattern.partition("/")
        for key in experiments.row_keys(name):
            if fnmatch.fnmatchcase("/".join(key), rest):
                yield name, key


def _derived(patterns: str) -> Iterator[xr.Dataset]:
    """Results made of several runs that patterns name, as far as they can be used."""
    for name in (p for p in patterns.split() if "/" not in p):
        try:
            found = results.derived(name, ("source_id", "n_train"))
        except ValueError:  # the page that shows it says so
            continue
        if found is not None:
            yield found


def _of_measure(
    rows: Sequence[Sequence[xr.Dataset]], name: str
) -> tuple[str, list[bool | None]] | None:
    """What rows say of a measure; whether it rises where that is clear, None for what is unclear.

    Beside a clear rise an unclear one says nothing against it, and has no None.

    A row that is measured at several sizes counts at the first with evidence.LRS, else two, and
    with several seeds where there is one.
    """
    grids = ([evidence.grid(ds, name) for ds in row if name in ds] for row in rows)
    enough = lambda grid: (min(grid.shape[1], evidence.LRS), len(grid) > 1)  # noqa: E731
    chosen = [max(of, key=enough) for of in grids if of]
    tables = [grid for grid in chosen if grid.shape[1] > 1]
    if not tables:
        return None
    label = plots.style(xr.Dataset(), name)[0]
    label = label if label[:2].isupper() else label.lower()
    known = [significance.summed(evidence.ends(table)) for table in tables]
    clear = [of.effect > 0 for of in known if abs(of.effect) > of.smallest]
    falls = sum(of.effect < 0 for of in known) - clear.count(False)
    agrees = [*clear, *[None] * (falls if True in clear else len(known) - len(clear))]
    if len(known) > 1:
        up, clearly = sum(of.effect > 0 for of in known), clear.count(True)
        return f"{label} rises in {up} of {len(known)} rows, in {clearly} clearly", agrees
    first, last = (plots.number(name, v) for v in tables[0].mean().iloc[[0, -1]])
    way = "rises" if known[0].effect > 0 else "falls"
    return f"{label} {way} ({first} to {last}{', unclear' * (not clear)})", agrees


def _of_claim(claim: dict | None) -> tuple[str, list[bool | None]] | None:
    if claim is None:
        return None
    said = claim["verdict"] + ", by a small effect" * claim["small"]
    return f"{claim['id']}, {claim['text']}: {said}", [AGREES.get(claim["verdict"])]


def _word(known: Sequence[bool | None]) -> str:
    """What parts say together, None for one that says nothing."""
    if not {True, False} & set(known):
        return "cannot be said"
    word = "agrees" if any(known) else "disagrees"
    return word if len(set(known)) == 1 else f"{word} in part"


def _each(found: Sequence[xr.Dataset], name: str) -> list:
    """What results have of a coordinate or attribute, each once, in order."""
    values = (ds[name].values if name in ds.coords else ds.attrs[name] for ds in found)
    return sorted({value.item() if isinstance(value, np.generic) else value
                   for of in values for value in np.atleast_1d(of)})  # fmt: skip
