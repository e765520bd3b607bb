"""lrsc run, sweep, campaign and measure: what trains networks, and measures them."""

import argparse
import contextlib
import json
import logging
import sys
from pathlib import Path

from lrsc.cli.options import common, hours, numbers, table


def add(commands) -> None:
    """The commands and their options."""
    for each in (_add_run, _add_sweep, _add_campaign, _add_measure):
        each(commands)


def _add_run(commands) -> None:
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
    common(add, profile="quick")
    add.set_defaults(command=_run)


def _add_sweep(commands) -> None:
    add = commands.add_parser("sweep", help="train and measure all runs of an experiment, resuming")
    add.add_argument("experiment")
    add.add_argument("--dataset", help="only this data set")
    add.add_argument("--model", help="only this model")
    add.add_argument("--hyperparameter", help="only this row of them, as in l2 or adam")
    add.add_argument("--lrs", type=numbers, help="instead of the plan's, as in 0.05,0.5")
    add.add_argument("--seeds", type=numbers, help="instead of the plan's, as in 0,1,2")
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
    common(add, profile="quick")
    add.set_defaults(command=_sweep, executor="serial", write="worker", retries=2)


def _add_campaign(commands) -> None:
    text = "train and measure the runs worth most that a time holds, and pack them"
    add = commands.add_parser("campaign", help=text)
    add.add_argument("--minutes", type=float, required=True, help="until all is packed")
    add.add_argument("--out", type=Path, default="campaign", help="for the packs (campaign/)")
    add.add_argument("--plan", type=Path, help="CSV file of rows (default the one that ships)")
    add.add_argument("--raw", action="store_true", help="train shipped runs too, for raw material")
    add.add_argument("--light", action="store_true", help="pack no raw material")
    add.add_argument("--engine", default="auto", help="as of lrsc sweep")
    add.add_argument("--workers", type=int, help="processes (default a core each; 1 on a GPU)")
    common(add)
    add.set_defaults(command=_campaign)


def _add_measure(commands) -> None:
    add = commands.add_parser("measure", help="measure a checkpoint, or stored runs again")
    add.add_argument("checkpoint", nargs="?", help="file with a state_dict of a model of ours")
    add.add_argument("--dataset", help="data set that the checkpoint is measured on")
    add.add_argument("--model", help="name of the checkpoint's model")
    add.add_argument("--again", action="store_true", help="recompute all stored local results")
    add.add_argument("--output", type=Path, help="netCDF file to write the measures to")
    add.add_argument("--statistics", default="running", help="of batch normalisation")
    common(add, profile="quick")
    add.set_defaults(command=_measure)


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
            hours(r["seconds"]), hours(r["at_most_seconds"]),
        )
        for r in rows
    ]  # fmt: skip
    print(table(columns, lines))
    print("expected: epochs by done runs of the nearest LRs, else the cap; at most: all at the cap")


def _measure(args) -> None:
    from lrsc import experiments, measures, results, sweep
    from lrsc.runs import load_checkpoint

    _threads(args)
    if args.again:
        for line in sweep.measure_again(root=args.results, data_root=args.data_root):
            print(line)
        return
    if not (args.checkpoint and args.dataset and args.model):
        raise ValueError("give CHECKPOINT --dataset NAME --model NAME, or --again")
    config = experiments.run_config(args.dataset, args.model, 0.1, 0, args.profile)
    found = measures.measure(
        *load_checkpoint(args.checkpoint, config, args.data_root),
        device=args.device, statistics=args.statistics,
    )  # fmt: skip
    rows = [(str(n), f"{float(v):.4f}") for n, v in found.data_vars.items() if v.ndim == 0]
    print(table(("measure", "value"), rows))
    if args.output:
        results.save(found, args.output)
