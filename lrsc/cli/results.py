"""lrsc results: merge, verify and clean results; make those of several runs."""

import json
from collections.abc import Iterable

from lrsc.cli import options
from lrsc.cli.options import flag, option


def add(commands) -> None:
    """The command and its options."""
    text = "merge, verify and clean results, and compare runs"
    actions = commands.add_parser("results", help=text).add_subparsers(
        required=True, metavar="action"
    )
    written = (
        option("--output", "file to write (default in the results folder)", type=options.path),
        flag("--ship", "write to book/results/ of this checkout: no quick runs, no stand-ins, and "
                       "never a file that holds less"),
    )  # fmt: skip
    text = "export the measures of an experiment's runs, local and shipped"
    options.add_command(
        actions, "export", _export, text, "experiment", options.RESULTS, *written,
        example="lrsc results export semi_synthetic --output semi_synthetic.nc",
    )  # fmt: skip
    for study, lrs, example, text in (
        ("contrast", "low,high", "--dataset double_mnist --model fcn --lrs 0.0224,0.1",
         "compare attributions of low- and high-LR networks where only the high LR is right"),
        ("soup", "two or more", "--dataset colored_mnist --model resnet18 --lrs 0.001,0.15",
         "average the weights of networks of several LRs, one soup per seed, and measure both"),
        ("crossfit", "low,high (default the experiment's)", "--lrs 0.01,0.1",
         "find CIFAR-10's conflicting samples with networks trained on the other half"),
    ):  # fmt: skip
        of_row = study != "crossfit"
        row = [option(f"--{name}", required=True) for name in ("dataset", "model") if of_row]
        options.add_command(
            actions, study, _study, text, *row,
            option("--profile", "of the runs (default desk)", default="desk"),
            option("--lrs", lrs, type=options.numbers, required=of_row),
            options.DATA_ROOT, options.RESULTS, *written, study=study,
            example=f"lrsc results {study} {example}",
        )  # fmt: skip
    source = option(
        "sources", "results folder, or pack of a campaign", nargs="+", type=options.path,
        metavar="SOURCE",
    )  # fmt: skip
    weights = flag("--weights", "also weights of runs that are not here")
    for name, run, text, *own in (
        ("merge", _merge, "copy runs from other results folders; local runs stay", source),
        ("verify", _verify, "check every local file and those that ship with the book"),
        ("gc", _gc, "list files no longer needed, and results in an old format",
         flag("--yes", "remove the former, rewrite the latter"), weights),
    ):  # fmt: skip
        kept = {"kept": "Runs copied so far are kept"} if name == "merge" else {}
        example = f"lrsc results {name}" + (" campaign/pack-*.zip" if name == "merge" else "")
        options.add_command(
            actions, name, run, text, *own, options.RESULTS, options.JSON, example=example, **kept
        )


def _export(args) -> None:
    from lrsc import experiments, results
    from lrsc.studies import compressibilities

    if args.ship:  # before the work
        results.check_ship(output=args.output)
    elif args.output:
        results.check_output(args.output)
    where = args.results, args.output, args.ship
    if args.experiment == compressibilities.NAME:
        print(f"wrote {compressibilities.export(*where)}")
    else:
        print(f"wrote {experiments.export(args.experiment, *where)}")


def _study(args) -> None:
    """Write what a study of local runs finds."""
    from lrsc import results
    from lrsc.studies import contrast, soups

    if args.ship:  # before the work
        results.check_ship(args.profile, args.output)
    elif args.output:
        results.check_output(args.output)
    folders = {"root": args.results, "data_root": args.data_root}
    if args.study == "crossfit":
        lrs = contrast.CROSSFIT_LRS if args.lrs is None else _two(args.lrs)
        name, found = contrast.CROSSFIT, contrast.crossfit(lrs, args.profile, **folders)
    else:
        name, row = f"{args.study}_{args.dataset}_{args.model}", (args.dataset, args.model)
        if args.study == "soup":
            found = soups.compare(*row, args.lrs, args.profile, **folders)
        else:
            found = contrast.compare(*row, _two(args.lrs), args.profile, **folders)
    path = results.write_derived(
        found, name, args.profile, root=args.results, output=args.output, ship=args.ship
    )
    print(f"wrote {path}")


def _two(lrs: list) -> tuple[float, float]:
    if len(lrs) != 2 or not 0 < lrs[0] < lrs[1]:
        raise ValueError(f"--lrs must be two learning rates, low,high; found {lrs!r}")
    return lrs[0], lrs[1]


def _merge(args) -> int:
    from lrsc.sweep import care

    return _shown(care.merge(args.sources, args.results), args.json, quiet="same")


def _verify(args) -> int:
    from lrsc.sweep import care

    return _shown(care.verify(args.results), args.json, quiet="ok")


def _gc(args) -> int:
    from lrsc.sweep import care

    found = care.garbage(args.results, args.weights)
    if args.yes:
        done = {"old form": "written anew"}
        found = (
            each._replace(state=done.get(each.state, "removed") if care.remove(each) else "in use")
            for each in found
        )
    failed = _shown(found, args.json)
    if not args.yes and not args.json:
        print("nothing was changed: --yes removes these files and rewrites old formats")
    return failed


def _shown(findings: Iterable, as_json: bool, quiet: str = "") -> int:
    """Print findings as they come, but those of a quiet state, and how many there are of each."""
    counts: dict[str, int] = {}
    rows = []
    for path, state, detail in findings:
        counts[state] = counts.get(state, 0) + 1
        if as_json:
            rows.append({"path": str(path), "state": state, "detail": detail})
        elif state != quiet:
            print(f"{path}: {state}" + (f" ({detail})" if detail else ""), flush=True)
    if as_json:
        print(json.dumps({"counts": counts, "rows": rows}))
    else:
        print(", ".join(f"{n} {state}" for state, n in counts.items()) or "nothing found")
    return int("wrong" in counts or "different" in counts)
