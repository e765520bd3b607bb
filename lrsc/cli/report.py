"""lrsc status, score, repro, bench and book: what there is, and what is shown of it."""

import json
import sys
from pathlib import Path

from lrsc.cli.options import hours, table


def add(commands) -> None:
    """The commands and their options."""
    for each in (_add_status, _add_score, _add_bench, _add_repro, _add_book):
        each(commands)


def _add_status(commands) -> None:
    add = commands.add_parser("status", help="what is done, and what is missing")
    add.add_argument("--profile", help="only this profile (default all)")
    add.add_argument("--results", type=Path, help="results folder")
    add.add_argument("--json", action="store_true", help="the same rows for programs")
    add.set_defaults(command=_status)


def _add_score(commands) -> None:
    add = commands.add_parser("score", help="what of the paper is reproduced: rows and claims")
    add.add_argument("--results", type=Path, help="results folder")
    add.add_argument("--json", action="store_true", help="the same rows for programs")
    text = "of batch normalisation (default: the paper's where measured, else running)"
    add.add_argument("--statistics", help=text)
    add.set_defaults(command=_score)


def _add_bench(commands) -> None:
    add = commands.add_parser("bench", help="measure times on this machine, in a checkout")
    add.add_argument("names", nargs="*", help="scripts of benchmarks/ (default all)")
    add.add_argument("--json", action="store_true", help="rows for programs")
    add.set_defaults(command=_bench, kept="What was printed is all there is")


def _add_repro(commands) -> None:
    add = commands.add_parser("repro", help="run a stored result again, and compare")
    add.add_argument("result", help="a run_id, local or shipped, or the file of a run")
    add.add_argument("--results", type=Path, help="results folder (default results/)")
    add.add_argument("--data-root", type=Path, help="data root (default $LRSC_DATA)")
    add.add_argument("--device", help="cpu, cuda, ... (default that of the result)")
    add.add_argument("--threads", type=int, help="CPU threads (default those of the result)")
    add.add_argument("--json", action="store_true", help="the same rows for programs")
    add.set_defaults(command=_repro, kept="Nothing is stored")


def _add_book(commands) -> None:
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
        (*(str(r[c]) for c in columns), "-" if r["seconds"] is None else hours(r["seconds"]))
        for r in rows
    ]
    print(table((*columns, "time left"), lines))
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
    print(table(heads, lines))
    print(table(("claim", "verdict", "effect", "rows", "says", "needs"), [
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
