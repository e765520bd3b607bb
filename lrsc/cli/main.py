"""The command `lrsc`: data | run | sweep | measure | repro | status | score | results | book."""

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong use. Real data are looked for under $LRSC_DATA."


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 failed or interrupted, 2 wrong use."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("distributed").setLevel(logging.WARNING)  # Dask tells each connection
    try:
        code = args.command(args) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whatever reads the output, as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is left of it
        return 1
    except ValueError as error:  # every error that a user can cause
        print(f"lrsc: {error}", file=sys.stderr)
        return 1 if isinstance(error, OSError) else 2  # of data and files
    except OSError as error:  # a full disk, a folder that takes no files
        print(f"lrsc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nlrsc: interrupted. {args.kept}; resume with the same command:\n  "
            + " ".join(["lrsc", *(sys.argv[1:] if argv is None else argv)]),
            file=sys.stderr,
        )
        return 1


def data_script(name: str, doc: str | None, argv: Sequence[str] | None = None) -> int:
    """What every data_scripts/<name>.py does: `lrsc data get` or, with --check, `data check`."""
    parser = argparse.ArgumentParser(
        description=doc, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="data root (default $LRSC_DATA)")
    parser.add_argument("--check", action="store_true", help="verify what is there, fetch nothing")
    args = parser.parse_args(argv)
    command = ["data", "check" if args.check else "get", name]
    return main(command if args.root is None else [*command, "--data-root", args.root])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lrsc", description=__doc__, epilog=EPILOG)
    parser.set_defaults(kept="Finished runs and checkpoints are kept")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_data(commands.add_parser("data", help="list, get and check the data sets"))

    add = commands.add_parser("run", help="train and measure one run")
    add.add_argument("dataset")
    add.add_argument("model")
    add.add_argument("--lr", type=float, default=0.1, help="learning rate (default 0.1)")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--max-epochs", type=int, default=1000, help="cap (default 1000)")
    for name, what in (
        ("set", "a field of TrainConfig, as in optimizer=adamw or precision=bf16"),
        ("data", "an option of the data set, as in rho=0.1"),
        ("model-option", "an option of the model, as in weights=imagenet"),
    ):
        add.add_argument(f"--{name}", type=_setting, action="append", default=[], help=what)
    _common(add, profile="quick")
    add.set_defaults(command=_run)

    add = commands.add_parser("sweep", help="train and measure all runs of an experiment, resuming")
    add.add_argument("experiment")
    add.add_argument("--dataset", help="only this data set")
    add.add_argument("--model", help="only this model")
    add.add_argument("--hyperparameter", help="only this row of them, as in l2 or adam")
    add.add_argument("--lrs", type=_numbers, help="instead of the plan's, as in 0.05,0.5")
    add.add_argument("--seeds", type=_numbers, help="instead of the plan's, as in 0,1,2")
    add.add_argument("--estimate", action="store_true", help="time it would take; trains nothing")
    add.add_argument("--raw", action="store_true", help="train shipped runs too, for raw material")
    add.add_argument(
        "--engine", default="auto",
        help="what trains runs side by side: auto, reference (none), threads, stacked or graphs",
    )  # fmt: skip
    add.add_argument("--replicas", type=int, help="runs side by side (default what fits and helps)")
    for option, kind, text in (
        ("executor", str, "serial (this process, the default) or dask (workers of a cluster)"),
        ("scheduler", str, "Dask scheduler, as in tcp://host:8786 (default workers of this host)"),
        ("write", str, "who writes results: worker (a shared folder, the default) or client"),
        ("retries", int, "times that a run is tried more when its worker dies or fails (2)"),
        ("time-limit", float, "seconds after which a run fails; its checkpoint is kept"),
    ):
        add.add_argument(f"--{option}", type=kind, help=f"{text}")
    _common(add, profile="quick")
    add.set_defaults(command=_sweep, executor="serial", write="worker", retries=2)

    text = "train and measure the runs worth most that a time holds, and pack them"
    add = commands.add_parser("campaign", help=text)
    add.add_argument("--minutes", type=float, required=True, help="until all is packed")
    add.add_argument("--out", type=Path, default="campaign", help="for the packs (campaign/)")
    add.add_argument("--plan", type=Path, help="CSV file of rows (default the one that ships)")
    add.add_argument("--raw", action="store_true", help="train shipped runs too, for raw material")
    add.add_argument("--light", action="store_true", help="pack no raw material")
    add.add_argument("--engine", default="auto", help="as of lrsc sweep")
    add.add_argument("--workers", type=int, help="processes (default a core each; 1 on a GPU)")
    _common(add)
    add.set_defaults(command=_campaign)

    add = commands.add_parser("measure", help="measure a checkpoint, or stored runs again")
    add.add_argument("checkpoint", nargs="?", help="file with a state_dict of a model of ours")
    add.add_argument("--dataset", help="data set that the checkpoint is measured on")
    add.add_argument("--model", help="name of the checkpoint's model")
    add.add_argument("--again", action="store_true", help="recompute all stored local results")
    add.add_argument("--output", type=Path, help="netCDF file to write the measures to")
    add.add_argument("--statistics", default="running", help="of batch normalisation")
    _common(add, profile="quick")
    add.set_defaults(command=_measure)

    add = commands.add_parser("status", help="what is done, and what is missing")
    add.add_argument("--profile", help="only this profile (default all)")
    add.add_argument("--results", type=Path, help="results folder")
    add.add_argument("--json", action="store_true", help="the same rows for programs")
    add.set_defaults(command=_status)

    add = commands.add_parser("score", help="what of the paper is reproduced: rows and claims")
    add.add_argument("--results", type=Path, help="results folder")
    add.add_argument("--json", action="store_true", help="the same rows for programs")
    text = "of batch normalisation (default: the paper's where measured, else running)"
    add.add_argument("--statistics", help=text)
    add.set_defaults(command=_score)

    text = "merge, verify and clean results; write those that ship with the book"
    add = commands.add_parser("bench", help="measure times on this machine, in a checkout")
    add.add_argument("names", nargs="*", help="scripts of benchmarks/ (default all)")
    add.add_argument("--json", action="store_true", help="rows for programs")
    add.set_defaults(command=_bench, kept="What was printed is all there is")

    _add_results(commands.add_parser("results", help=text))

    add = commands.add_parser("repro", help="run a stored result again, and compare")
    add.add_argument("result", help="a run_id, local or shipped, or the file of a run")
    add.add_argument("--results", type=Path, help="results folder (default results/)")
    add.add_argument("--data-root", type=Path, help="data root (default $LRSC_DATA)")
    add.add_argument("--device", help="cpu, cuda, ... (default that of the result)")
    add.add_argument("--threads", type=int, help="CPU threads (default those of the result)")
    add.add_argument("--json", action="store_true", help="the same rows for programs")
    add.set_defaults(command=_repro, kept="Nothing is stored")

    add = commands.add_parser("book", help="execute the notebooks and build the book")
    add.add_argument("--profile", default="quick", help="of the live parts (default quick)")
    add.add_argument("--output", type=Path, help="folder to build in (default _build)")
    add.add_argument("--force", action="store_true", help="execute and build even if unchanged")
    add.add_argument("--only", nargs="+", metavar="NAME", help="execute no other notebooks")
    add.add_argument("--jobs", type=int, help="notebooks at once (default what fits, at most 4)")
    add.add_argument("--pdf", action="store_true", help="print the whole book to book.pdf as well")
    add.add_argument("--archive", action="store_true", help="pack the built book as one file")
    add.add_argument("--serve", action="store_true", help="then serve the book on this machine")
    add.set_defaults(command=_book, kept="What was executed is kept")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="action")
    for action, text in (
        ("list", "what there is: present, size, licence, source"),
        ("get", "fetch, verify and lay out a data set; resumes"),
        ("check", "verify a data set, or all that is there"),
        ("path", "where data and caches are looked for"),
    ):
        add = actions.add_parser(action, help=text, epilog=EPILOG)
        if action in ("get", "check"):
            add.add_argument("name", nargs="?" if action == "check" else None)
        if action == "list":
            add.add_argument("--json", action="store_true", help="the same rows for programs")
        add.add_argument("--data-root", "--root", type=Path, help="data root (default $LRSC_DATA)")
        add.set_defaults(command=_data, action=action, kept="What was fetched is kept")


def _add_results(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="action")
    add = actions.add_parser("export", help="measures of an experiment's runs, local and shipped")
    add.add_argument("experiment")
    add.set_defaults(make=_export)
    text = "attributions of low- and high-LR networks on samples that only the high LR gets right"
    add = actions.add_parser("contrast", help=text)
    add.add_argument("--dataset", required=True)
    add.add_argument("--model", required=True)
    add.set_defaults(make=_contrast)
    text = "soups of networks of several LRs, a soup a seed, beside the networks"
    add = actions.add_parser("soup", help=text)
    add.add_argument("--dataset", required=True)
    add.add_argument("--model", required=True)
    add.set_defaults(make=_soup)
    text = "conflicting samples of CIFAR-10, found by networks trained on the other half"
    add = actions.add_parser("crossfit", help=text)
    add.set_defaults(make=_crossfit)
    for name, parser in actions.choices.items():
        parser.add_argument("--results", type=Path, help="results folder (default results/)")
        parser.set_defaults(command=_results)
        if name != "export":
            parser.add_argument("--profile", default="desk", help="of the runs (default desk)")
            lrs = "two or more" if name == "soup" else "low,high"
            parser.add_argument("--lrs", type=_numbers, required=True, help=lrs)
            parser.add_argument("--data-root", type=Path, help="data root (default $LRSC_DATA)")
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
    for add in (actions.choices[name] for name in ("merge", "verify", "gc")):
        add.add_argument("--results", type=Path, help="results folder (default results/)")
        add.add_argument("--json", action="store_true", help="the same rows for programs")


def _common(parser: argparse.ArgumentParser, profile: str = "") -> None:
    if profile:
        parser.add_argument("--profile", default=profile, help=f"quick, desk or paper ({profile})")
    parser.add_argument("--data-root", type=Path, help="data root (default $LRSC_DATA)")
    parser.add_argument("--results", type=Path, help="results folder (default results/)")
    parser.add_argument("--device", help="cpu, cuda, ... (default a GPU where there is one)")
    if profile:
        parser.add_argument("--threads", type=int, help="CPU threads (default all)")


def _numbers(text: str) -> list:
    """'0.05,0.5' or '[0.05, 0.5]' -> numbers."""
    try:
        return [json.loads(part) for part in text.strip("[] ").split(",") if part.strip()]
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(
            f"expected numbers like 0.05,0.5, found {text!r}"
        ) from None


def _setting(text: str) -> tuple:
    """'name=value' -> (name, value as JSON where it is, else as text)."""
    name, found, value = text.partition("=")
    if not name or not found:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _threads(args) -> None:
    if args.threads is not None:
        import torch

        if args.threads < 1:
            raise ValueError(f"--threads must be >= 1, found {args.threads}")
        torch.set_num_threads(args.threads)


def _data(args) -> int | None:
    from lrsc import datasets
    from lrsc.datasets.raw import on_disk

    root = datasets.data_root(args.data_root)
    if getattr(args, "name", None) is not None and not on_disk.raw_sets(args.name, root):
        print(f"{args.name} is generated: there is nothing to {args.action}")
        return 0
    action = {"list": _data_list, "get": _data_get, "check": _data_check, "path": _data_path}
    try:
        return action[args.action](args, root)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:  # a file, the network, a folder not to be written
        print(f"lrsc: {error}", file=sys.stderr)
        return 1


def _data_path(args, root: Path) -> None:
    from lrsc.datasets.raw import cache

    print(f"data root     {root}{'' if root.is_dir() else ' (not there yet)'}")
    print(f"cache folder  {cache.folder()}")


def _data_list(args, root: Path) -> None:
    from lrsc.datasets.raw import on_disk

    rows = on_disk.listing(root)
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    columns = ("name", "present", "size", "licence", "source", "needs")
    shown = [row | {"size": _bytes(row["size"]), "needs": ", ".join(row["needs"])} for row in rows]
    print(_table(columns, [tuple(row[c] or "-" for c in columns) for row in shown]))
    print(f"present: in {root}, not verified (lrsc data check); size: to fetch, where published")


def _data_get(args, root: Path) -> int:
    from lrsc.datasets.raw import on_disk

    return _findings(on_disk.get(args.name, root), complete=True)


def _data_check(args, root: Path) -> int:
    from lrsc.datasets.raw import on_disk

    if args.name is not None:
        return _findings(on_disk.check(args.name, root), complete=True)
    failed = 0
    for row in on_disk.listing(root):
        if row["present"] in ("yes", "partly") and not row["needs"]:
            failed |= _findings(on_disk.check(row["name"], root), complete=False)
        elif row["present"] == "no" and not row["needs"]:
            print(f"{row['name']}: not here")
    return failed


def _findings(findings: Iterable, complete: bool) -> int:
    """Print them as they come; 1 if one is wrong or, where all must be complete, missing."""
    states = set()
    for found in findings:
        print(f"{found.path}: {found.state} ({found.detail})", flush=True)
        states.add(found.state)
    return int("wrong" in states or (complete and "missing" in states))


def _run(args) -> int | None:
    from lrsc import experiments, sweep

    _threads(args)
    for name in ("lr", "max_epochs"):
        if name in dict(args.set):
            raise ValueError(f"--set {name} is --{name.replace('_', '-')}: give that")
    config = experiments.run_config(
        args.dataset, args.model, args.lr, args.seed, args.profile, args.max_epochs,
        data=dict(args.data), train=dict(args.set), model_options=dict(args.model_option),
    )  # fmt: skip
    return _do_sweep(args, sweep, [config])


def _sweep(args) -> int | None:
    from lrsc import experiments, sweep

    _threads(args)
    configs = experiments.configs(
        args.experiment, args.profile, args.dataset, args.model, args.lrs, args.seeds,
        args.hyperparameter,
    )  # fmt: skip
    where = {"root": args.results, "data_root": args.data_root, "device": args.device}
    if args.estimate:
        _print_estimate(sweep.estimate(configs, **where))
        return None
    return _do_sweep(
        args, sweep, configs, raw=args.raw, engine=args.engine, replicas=args.replicas,
        executor=args.executor, scheduler=args.scheduler, write=args.write, retries=args.retries,
        time_limit=args.time_limit,
    )  # fmt: skip


def _campaign(args) -> None:
    from lrsc.sweep import campaign

    done = campaign.run(
        args.minutes, device=args.device, out=args.out, plan=args.plan, root=args.results,
        data_root=args.data_root, engine=args.engine, workers=args.workers, raw=args.raw,
        light=args.light,
    )  # fmt: skip
    print(
        f"{len(done.finished)} runs finished, {done.standing} of the plan stand, {done.rows[0]} of "
        f"{done.rows[1]} rows whole, {done.seconds:.0f} s; packed: "
        + ", ".join(map(str, done.files))
    )


def _do_sweep(args, sweep, configs, **options) -> int | None:
    from lrsc import results
    from lrsc.training import distributed

    device = distributed.start(args.device)
    if distributed.rank():
        logging.getLogger().setLevel(logging.WARNING)
    from tqdm.contrib.logging import logging_redirect_tqdm

    shown = logging_redirect_tqdm() if sys.stderr.isatty() else contextlib.nullcontext()
    with shown:  # lines of the log above the progress display
        report = sweep.run(
            configs, root=args.results, data_root=args.data_root, device=device, **options
        )
    first = distributed.rank() == 0
    distributed.end()
    if not first:
        return None
    text = f"{len(report.trained)} trained, {len(report.done_before)} done before"
    if report.elsewhere:
        text += f", {len(report.elsewhere)} being trained by another process"
    if report.failed:
        text += f", {len(report.failed)} failed (lrsc status)"
    print(f"{text}; results in {results.results_root(args.results) / 'runs'}")
    return int(bool(report.failed))


def _print_estimate(rows: list[dict]) -> None:
    columns = ("dataset", "model", "runs", "to do", "ms/step", "expected", "at most")
    lines = [
        (
            r["dataset"], r["model"], str(r["runs"]), str(r["to_do"]), f"{r['step_ms']:.2f}",
            _hours(r["seconds"]), _hours(r["at_most_seconds"]),
        )
        for r in rows
    ]  # fmt: skip
    print(_table(columns, lines))
    print("expected: epochs of the done run nearest in LR, else the cap; at most: all at the cap")


def _measure(args) -> None:
    from lrsc import experiments, measures, results, sweep

    _threads(args)
    if args.again:
        for line in sweep.measure_again(root=args.results, data_root=args.data_root):
            print(line)
        return
    if not (args.checkpoint and args.dataset and args.model):
        raise ValueError("give CHECKPOINT --dataset NAME --model NAME, or --again")
    config = experiments.run_config(args.dataset, args.model, 0.1, 0, args.profile)
    found = measures.measure(
        *sweep.load_checkpoint(args.checkpoint, config, args.data_root),
        device=args.device, statistics=args.statistics,
    )  # fmt: skip
    rows = [(str(n), f"{float(v):.4f}") for n, v in found.data_vars.items() if v.ndim == 0]
    print(_table(("measure", "value"), rows))
    if args.output:
        results.save(found, args.output)


def _status(args) -> None:
    from lrsc import experiments
    from lrsc.results import locks

    rows = experiments.status(args.profile, args.results)
    running, failed = locks.running(args.results), locks.failures(args.results)
    if args.json:
        print(json.dumps({"rows": rows, "running": running, "failed": failed}))
        return
    columns = (
        "profile", "experiment", "dataset", "model", "hyperparameter", "runs", "done", "diverged",
        "running", "failed", "missing",
    )  # fmt: skip
    lines = [
        (*(str(r[c]) for c in columns), "-" if r["seconds"] is None else _hours(r["seconds"]))
        for r in rows
    ]
    print(_table((*columns, "time left"), lines))
    print("missing: neither done nor running; time left: for one process at a time, by done runs")
    for each in running:
        print(f"running: {_named(each)} since {each['since']} on {each['host']}, {each['pid']}")
    for each in failed:
        print(f"failed: {_named(each)} at {each['when']} on {each['host']}, tried "
              f"{each['attempts']} x: {each['reason']}")  # fmt: skip


def _named(run: dict) -> str:
    """A run of a lock or a note, for people."""
    from lrsc.config import RunConfig

    config = RunConfig.from_json(run["config"])
    return (
        f"{run['run_id']} ({config.dataset} {config.model} lr {config.train.lr:g} "
        f"seed {config.seed})"
    )


def _score(args) -> None:
    from lrsc import claims
    from lrsc.claims import scorecard

    rows = scorecard.rows(args.results, args.statistics)
    verdicts = claims.verdicts(args.results)
    if args.json:
        kept = ("id", "verdict", "effect", "low", "high", "by_statistics")
        shown = [{k: c[k] for k in kept if k in c} for c in verdicts]
        print(json.dumps({"rows": rows, "claims": shown}))
        return
    print(scorecard.headline(rows, verdicts))
    columns = (
        "table", "dataset", "model", "hyperparameter", "status", "profile", "statistics", "n",
        "seeds",
    )  # fmt: skip
    measures = ("value", "unbiased_accuracy", "prunability", "csi")
    lines = [
        (*(str(r[c] or "-") for c in columns),
         *(scorecard.beside(r, measure) for measure in measures),
         scorecard.command(r) if r["status"] == "not measured" else "")
        for r in rows
    ]  # fmt: skip
    heads = (*columns, *(f"{m} (paper | ours)" for m in measures), "measure it with")
    print(_table(heads, lines))
    print(_table(("claim", "verdict", "effect", "rows", "says", "needs"), [
        (c["id"], c["verdict"], "-" if c["effect"] is None else f"{c['effect']:+.3f}",
         str(len(c["rows"])), c["text"], c["needs"] if c["verdict"] == "not measured" else "")
        for c in verdicts
    ]))  # fmt: skip


def _repro(args) -> int:
    import math

    from lrsc.studies import reproduce

    if args.threads is not None and args.threads < 1:
        raise ValueError(f"--threads must be >= 1, found {args.threads}")
    found = reproduce.reproduce(
        args.result, root=args.results, data_root=args.data_root, device=args.device,
        threads=args.threads,
    )  # fmt: skip
    if args.json:
        nan_as_none = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in found.rows
        ]
        print(json.dumps({
            "run_id": found.run_id, "ok": found.ok, "verdict": found.verdict,
            "differences": found.differences, "lost": found.lost, "rows": nan_as_none,
        }))  # fmt: skip
        return int(not found.ok)
    number = lambda v, row: f"{row['values']} values" if v is None else f"{v:.6g}"  # noqa: E731
    print(_table(("measure", "stored", "now", "difference"), [
        (row["name"], number(row["stored"], row), number(row["now"], row),
         "equal" if row["equal"] else f"{row['difference']:.3g}")
        for row in found.rows
    ]))  # fmt: skip
    for difference in found.differences:
        print(f"different: {difference}")
    print(f"{found.run_id}: {found.verdict}")
    return int(not found.ok)


def _bench(args) -> int:
    import subprocess

    from lrsc import results
    from lrsc.errors import check_names

    folder = results.project_root() / "benchmarks"
    if not folder.is_dir():
        raise ValueError("bench runs the scripts in benchmarks/ of a checkout: this is none")
    known = sorted(path.stem for path in folder.glob("*.py") if path.stem != "report")
    check_names("benchmark", args.names, known)
    failed = 0
    for name in args.names or known:
        if not args.json:
            print(f"== {name}", flush=True)
        command = [sys.executable, str(folder / f"{name}.py"), *(["--json"] * args.json)]
        failed |= subprocess.run(command).returncode
    return int(failed != 0)


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
    from lrsc import results
    from lrsc.studies import contrast

    found = contrast.compare(
        args.dataset, args.model, _two(args.lrs), args.profile, root=args.results,
        data_root=args.data_root,
    )  # fmt: skip
    path = results.shipped_path(f"contrast_{args.dataset}_{args.model}")
    results.save(found, path)
    return path


def _soup(args) -> Path:
    from lrsc import results
    from lrsc.studies import soups

    found = soups.compare(
        args.dataset, args.model, args.lrs, args.profile, root=args.results,
        data_root=args.data_root,
    )  # fmt: skip
    path = results.shipped_path(f"soup_{args.dataset}_{args.model}")
    results.save(found, path)
    return path


def _crossfit(args) -> Path:
    from lrsc import results
    from lrsc.studies import contrast

    found = contrast.crossfit(
        _two(args.lrs), args.profile, root=args.results, data_root=args.data_root
    )
    path = results.shipped_path(contrast.CROSSFIT)
    results.save(found, path)
    return path


def _two(lrs: list) -> tuple[float, float]:
    if len(lrs) != 2 or not 0 < lrs[0] < lrs[1]:
        raise ValueError(f"--lrs must be two learning rates, low,high; found {lrs!r}")
    return lrs[0], lrs[1]


def _book(args) -> int:
    from lrsc import bookbuild

    try:
        index = bookbuild.build(
            args.profile, output=args.output, force=args.force, only=args.only, jobs=args.jobs
        )
        print(f"the book: {index}")
        if args.pdf:
            print(f"as PDF: {bookbuild.print_pdf(index.parent)}")
        if args.archive:
            print(f"as archive: {bookbuild.archive(index.parent, index.parent.parent)}")
    except bookbuild.BuildFailed as error:
        print(f"lrsc: {error}", file=sys.stderr)
        return 1
    if args.serve:
        bookbuild.serve(index.parent)
    return 0


def _bytes(n: int | None) -> str:
    return "" if n is None else f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip()
             for row in [columns, ["-" * w for w in widths], *rows]]  # fmt: skip
    return "\n".join(lines)
