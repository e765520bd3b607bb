"""lrsc run, sweep, campaign and measure: what trains networks, and measures them."""

import contextlib
import logging
import sys

from lrsc.cli import options
from lrsc.cli.options import NAMED, flag, hours, option


def add(commands) -> None:
    """The commands and their options."""
    _add_runs(commands)
    text = "train, measure and pack the most valuable runs that fit into a given time"
    options.add_command(
        commands, "campaign", _campaign, text,
        option("--minutes", "minutes until everything is packed", type=float, required=True),
        option("--out", "folder of packs (campaign/)", type=options.path, default="campaign"),
        option("--plan", "CSV file of rows (default the shipped plan)", type=options.path),
        options.RAW,
        flag("--light", "leave raw material out of the packs"),
        option("--engine", "as in lrsc sweep (default auto)", default="auto"),
        option("--workers", "processes (default one per core; 1 on a GPU)", type=int),
        options.DATA_ROOT, options.RESULTS, options.DEVICE,
        example="lrsc campaign --minutes 150",
    )  # fmt: skip
    options.add_command(
        commands, "measure", _measure, "measure a checkpoint, or re-measure stored runs",
        option("checkpoint", "file with a state_dict", nargs="?"),
        option("--dataset", "data set to measure the checkpoint on"),
        option("--model", "the checkpoint's model: a name, or package.module:function"),
        option("--data", "an option of the data set, such as rho=0.1", **NAMED),
        option("--model-option", "an option of the model, such as init=torch", **NAMED),
        flag("--again", "re-measure all local runs from their raw material"),
        option("--output", "netCDF file to write the measures to", type=options.path),
        option("--statistics", "of batch normalisation (default running)", default="running"),
        *options.COMMON, example="lrsc measure my_net.pt --dataset colored_mnist --model resnet18",
    )  # fmt: skip


def _add_runs(commands) -> None:
    options.add_command(
        commands, "run", _run, "train and measure one run", "dataset", "model",
        option("--lr", "learning rate (default 0.1)", type=float),
        option("--seed", "seed of weights and sample order (default 0)", type=int, default=0),
        option("--max-epochs", "cap (default that of the paper's row, else 1000)", type=int),
        option("--set", "a field of TrainConfig, such as optimizer=adamw", **NAMED),
        option("--data", "an option of the data set, such as rho=0.1", **NAMED),
        option("--model-option", "an option of the model, such as weights=imagenet", **NAMED),
        *options.COMMON, example="lrsc run colored_mnist fcn --lr 0.1 --set optimizer=adamw",
    )  # fmt: skip
    engines = "how runs train: auto, reference (one by one), threads, stacked or graphs"
    scheduler = "Dask scheduler, such as tcp://host:8786 (default workers on this machine)"
    text = "train and measure all runs of an experiment; resumes"
    options.add_command(
        commands, "sweep", _sweep, text, "experiment",
        option("--dataset", "only this data set"),
        option("--model", "only this model"),
        option("--hyperparameter", "only the rows of this hyperparameter, such as l2 or adam"),
        option("--lrs", "instead of the plan's, such as 0.05,0.5", type=options.numbers),
        option("--seeds", "instead of the plan's, such as 0,1,2", type=options.numbers),
        flag("--estimate", "print how long it would take; train nothing"),
        options.RAW,
        option("--engine", engines, default="auto"),
        option("--replicas", "runs side by side (default as many as fit and help)", type=int),
        option("--executor", "serial (this process, the default) or dask (cluster workers)"),
        option("--scheduler", scheduler),
        option("--write", "who writes results: worker (default, needs a shared folder) or client"),
        option("--retries", "how often to retry a run whose worker dies or fails (default 2)",
               type=int),
        option("--time-limit", "stop a run after this many seconds; its checkpoint is kept",
               type=float),
        *options.COMMON, executor="serial", write="worker", retries=2,
        example="lrsc sweep semi_synthetic --dataset colored_mnist --model fcn",
    )  # fmt: skip


def _run(args) -> int | None:
    from lrsc import experiments, sweep

    options.use_threads(args.threads)
    train = dict(args.set)
    if "seed" in train:
        raise ValueError(f"seed is of a run, not of its training: give --seed {train['seed']}")
    for name, given in (("lr", args.lr), ("max_epochs", args.max_epochs)):
        if given is not None and repr(train.setdefault(name, given)) != repr(given):
            raise ValueError(
                f"--{name.replace('_', '-')} {given} and --set {name}={train[name]}: give one"
            )
    config, said = experiments.usual_run(
        args.dataset, args.model, args.profile, args.seed, data=dict(args.data), train=train,
        model_options=dict(args.model_option),
    )  # fmt: skip
    logging.getLogger(__name__).info(said)
    return _do_sweep(args, sweep, [config])


def _sweep(args) -> int | None:
    from lrsc import experiments, sweep

    options.use_threads(args.threads)
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
            r["dataset"], r["model"], r["runs"], r["to_do"],
            f"{r['step_ms']:.2f}" if r["to_do"] else None,
            hours(r["seconds"]), hours(r["at_most_seconds"]),
        )
        for r in rows
    ]  # fmt: skip
    print(options.table(columns, lines))
    print("expected: epochs as in finished runs of the nearest LRs; at most: all at the cap")


def _measure(args) -> None:
    from lrsc import experiments, measures, results, sweep
    from lrsc.runs import load_checkpoint

    options.use_threads(args.threads)
    if args.again:
        for line in sweep.measure_again(root=args.results, data_root=args.data_root):
            print(line)
        return
    if not (args.checkpoint and args.dataset and args.model):
        raise ValueError("give CHECKPOINT --dataset NAME --model NAME, or --again")
    if args.output:  # before the work
        results.check_output(args.output)
    config, _ = experiments.usual_run(
        args.dataset, args.model, args.profile, data=dict(args.data),
        model_options=dict(args.model_option),
    )  # fmt: skip
    found = measures.measure(
        *load_checkpoint(args.checkpoint, config, args.data_root),
        device=args.device, statistics=args.statistics,
    )  # fmt: skip
    rows = [(n, f"{float(v):.4f}") for n, v in found.data_vars.items() if v.ndim == 0]
    print(options.table(("measure", "value"), rows))
    if args.output:
        results.save(found, args.output)
