"""lrsc status, score, repro, bench and book: what there is, and what is shown of it."""

import json
import sys

from lrsc.cli import options
from lrsc.cli.options import flag, hours, option, table


def add(commands) -> None:
    """The commands and their options."""
    options.add_command(
        commands, "status", _status, "show which runs are done and which are missing",
        option("--profile", "only this profile (default all)"), options.RESULTS, options.JSON,
        example="lrsc status --profile desk",
    )  # fmt: skip
    statistics = "of batch normalisation (default: recalibrated where measured, else running)"
    options.add_command(
        commands, "score", _score, "score the reproduction: the paper's rows and claims",
        options.RESULTS, options.JSON, option("--statistics", statistics),
        example="lrsc score --statistics recalibrated",
    )  # fmt: skip
    options.add_command(
        commands, "bench", _bench, "run the benchmarks of a checkout on this machine",
        option("names", "scripts of benchmarks/ (default all)", nargs="*"), options.JSON,
        kept="Nothing but the output is kept", example="lrsc bench shrinking",
    )  # fmt: skip
    options.add_command(
        commands, "repro", _repro, "repeat a stored run and compare",
        option("result", "run_id of a local or shipped run, or a run's file"),
        options.RESULTS, options.DATA_ROOT, options.JSON,
        option("--device", "cpu, cuda, ... (default that of the result)"),
        option("--threads", "CPU threads (default those of the result)", type=int),
        kept="Nothing is stored", example="lrsc repro 297221175a7a53cf",
    )  # fmt: skip
    options.add_command(
        commands, "book", _book, "execute the notebooks and build the book",
        option("--profile", "profile of the live parts (default quick)", default="quick"),
        option("--output", "build folder (default _build)", type=options.path),
        flag("--force", "execute and build even if nothing changed"),
        option("--only", "execute no other notebooks", nargs="+", metavar="NAME"),
        option("--jobs", "notebooks at once (default as many as fit, at most 4)", type=int),
        flag("--pdf", "also print the whole book to book.pdf"),
        flag("--archive", "pack the built book as one file"),
        flag("--serve", "serve the book on this machine afterwards"),
        kept="What was executed is kept", example="lrsc book --only synthetic",
    )  # fmt: skip


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
    left = [None if r["seconds"] is None else hours(r["seconds"]) for r in rows]
    lines = [[*(r[c] for c in columns), time] for r, time in zip(rows, left, strict=True)]
    print(table((*columns, "time left"), lines))
    print("missing: neither done nor running; time left: for one process, from finished runs")
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
        kept = ("id", "verdict", "effect", "low", "high", "small", "by_statistics")
        shown = [{k: c[k] for k in kept if k in c} for c in verdicts]
        print(json.dumps({"rows": rows, "claims": shown}))
        return
    print(scorecard.headline(rows, verdicts))
    columns = (
        "table", "dataset", "model", "hyperparameter", "status", "profile", "statistics", "n",
        "seeds",
    )  # fmt: skip
    measures = ("value", "unbiased_accuracy", "prunability", scorecard.CORRECTED, "csi")
    lines = [
        (*(r[c] for c in columns),
         *(scorecard.beside(r, measure) for measure in measures),
         scorecard.command(r) if r["status"] == "not measured" else "")
        for r in rows
    ]  # fmt: skip
    heads = (*columns, *(f"{m} (paper | ours)" for m in measures), "measure it with")
    print(table(heads, lines))
    numbers = {n: ".3f" for n in ("effect", "low", "high", "smallest")} | {"p": ".2g"}
    print(table(("claim", "verdict", *numbers, "rows", "says", "needs"), [
        (c["id"], c["verdict"] + ", small" * c["small"],
         *(None if c[n] is None else f"{c[n]:{form}}" for n, form in numbers.items()),
         c["n_rows"], c["text"], c["needs"] if c["verdict"] == "not measured" else "")
        for c in verdicts
    ]))  # fmt: skip
    print("smallest: the smallest effect that the data at hand could have shown; p: after Holm")


def _repro(args) -> int:
    import math

    from lrsc.studies import reproduce

    options.use_threads(args.threads)
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
    print(table(("measure", "stored", "now", "difference"), [
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


def _book(args) -> None:
    from lrsc import bookbuild

    index = bookbuild.build(
        args.profile, output=args.output, force=args.force, only=args.only, jobs=args.jobs
    )
    print(f"the book: {index}")
    if args.pdf:
        print(f"as PDF: {bookbuild.print_pdf(index.parent)}")
    if args.archive:
        print(f"as archive: {bookbuild.archive(index.parent, index.parent.parent)}")
    if args.serve:
        bookbuild.serve(index.parent)
