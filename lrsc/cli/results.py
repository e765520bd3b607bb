"""lrsc results: merge, verify and clean results; write those that ship with the book."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lrsc.cli.options import numbers


def add(commands) -> None:
    """The command and its options."""
    text = "merge, verify and clean results; write those that ship with the book"
    parser = commands.add_parser("results", help=text)
    actions = parser.add_subparsers(required=True, metavar="action")
    add = actions.add_parser("export", help="measures of an experiment's runs, local and shipped")
    add.add_argument("experiment")
    add.set_defaults(command=_results, make=_export)
    for name, make, lrs, text in (
        ("contrast", _contrast, "low,high",
         "attributions of low- and high-LR networks on samples that only the high LR gets right"),
        ("soup", _soup, "two or more",
         "soups of networks of several LRs, a soup a seed, beside the networks"),
        ("crossfit", _crossfit, "low,high (default the experiment's)",
         "conflicting samples of CIFAR-10, found by networks trained on the other half"),
    ):  # fmt: skip
        add = actions.add_parser(name, help=text)
        if name != "crossfit":
            add.add_argument("--dataset", required=True)
            add.add_argument("--model", required=True)
        add.add_argument("--profile", default="desk", help="of the runs (default desk)")
        add.add_argument("--lrs", type=numbers, required=name != "crossfit", help=lrs)
        add.add_argument("--data-root", type=Path, help="data root (default $LRSC_DATA)")
        add.set_defaults(command=_results, make=make)
    text = "bring the runs of other results folders; what is here stays"
    add = actions.add_parser("merge", help=text)
    add.add_argument("sources", nargs="+", type=Path, metavar="SOURCE",
                     help="results folder, or pack of a campaign")  # fmt: skip
    add.set_defaults(command=_merge, kept="What was brought is kept")
    add = actions.add_parser("verify", help="look at every file, and at what ships with the book")
    add.set_defaults(command=_verify)
    gc = actions.add_parser("gc", help="list what is no longer needed, and remove it with --yes")
    gc.add_argument("--yes", action="store_true", help="remove it")
    gc.add_argument("--weights", action="store_true", help="weights of runs that are not here too")
    gc.set_defaults(command=_gc)
    for name, add in actions.choices.items():
        add.add_argument("--results", type=Path, help="results folder (default results/)")
        if name in ("merge", "verify", "gc"):
            add.add_argument("--json", action="store_true", help="the same rows for programs")


def _results(args) -> None:
    print(f"wrote {args.make(args)}")


def _merge(args) -> int:
    from lrsc.sweep import care

    return _shown(care.merge(args.sources, args.results), args.json, quiet=("same",))


def _verify(args) -> int:
    from lrsc.sweep import care

    return _shown(care.verify(args.results), args.json, quiet=("ok",))


def _gc(args) -> int:
    from lrsc.sweep import care

    found = care.garbage(args.results, args.weights)
    if args.yes:
        found = (
            each._replace(state="removed" if care.remove(each) else "in use") for each in found
        )
    failed = _shown(found, args.json)
    if not args.yes and not args.json:
        print("nothing was removed: remove it with --yes")
    return failed


def _shown(findings: Iterable, as_json: bool, quiet: Sequence[str] = ()) -> int:
    """Print findings as they come, but those of a quiet state, and how many there are of each."""
    counts: dict[str, int] = {}
    rows = []
    try:
        for path, state, detail in findings:
            counts[state] = counts.get(state, 0) + 1
            if as_json:
                rows.append({"path": str(path), "state": state, "detail": detail})
            elif state not in quiet:
                print(f"{path}: {state}" + (f" ({detail})" if detail else ""), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder not to be written
        print(f"lrsc: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps({"counts": counts, "rows": rows}))
    else:
        print(", ".join(f"{n} {state}" for state, n in counts.items()) or "nothing found")
    return int("wrong" in counts or "different" in counts)


def _export(args) -> Path:
    from lrsc import experiments
    from lrsc.studies import compressibilities

    if args.experiment == compressibilities.NAME:
        return compressibilities.export(args.results)
    return experiments.export(args.experiment, args.results)


def _contrast(args) -> Path:
    from lrsc.studies import contrast

    found = contrast.compare(
        args.dataset, args.model, _two(args.lrs), args.profile, **_folders(args)
    )
    return _ship(found, f"contrast_{args.dataset}_{args.model}")


def _soup(args) -> Path:
    from lrsc.studies import soups

    found = soups.compare(args.dataset, args.model, args.lrs, args.profile, **_folders(args))
    return _ship(found, f"soup_{args.dataset}_{args.model}")


def _crossfit(args) -> Path:
    from lrsc.studies import contrast

    lrs = contrast.CROSSFIT_LRS if args.lrs is None else _two(args.lrs)
    return _ship(contrast.crossfit(lrs, args.profile, **_folders(args)), contrast.CROSSFIT)


def _folders(args) -> dict:
    return {"root": args.results, "data_root": args.data_root}


def _ship(found, name: str) -> Path:
    """Write what ships with the book, and say where."""
    from lrsc import results

    path = results.shipped_path(name)
    results.save(found, path)
    return path


def _two(lrs: list) -> tuple[float, float]:
    if len(lrs) != 2 or not 0 < lrs[0] < lrs[1]:
        raise ValueError(f"--lrs must be two learning rates, low,high; found {lrs!r}")
    return lrs[0], lrs[1]
