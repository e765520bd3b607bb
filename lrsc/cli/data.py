"""lrsc data: list, get and check the data sets."""

import json
from collections.abc import Iterable
from pathlib import Path

from lrsc.cli import options
from lrsc.cli.options import option
from lrsc.errors import Unreadable


def add(commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("data", help="list, get and check the data sets")
    actions = parser.add_subparsers(required=True, metavar="action")
    names, settings = options.DATA_ROOT
    root = f"{names} --root", settings
    for action, make, text, *own in (
        ("list", _list, "list all data sets: present, size, licence, source", options.JSON),
        ("get", _get, "fetch, verify and unpack a data set", option("name")),
        ("check", _check, "verify a data set, or all that are present", option("name", nargs="?")),
        ("path", _path, "show the folders of data and caches"),
    ):
        options.add_command(
            actions, action, _data, text, *own, root, action=action, make=make,
            kept="What was fetched is kept",
            example=f"lrsc data {action}" + (" mnist" if action in ("get", "check") else ""),
        )  # fmt: skip


def _data(args) -> int | None:
    from lrsc import datasets
    from lrsc.datasets.raw import on_disk

    root = datasets.data_root(args.data_root)
    if getattr(args, "name", None) is not None and not on_disk.raw_sets(args.name, root):
        print(f"{args.name} is generated: there is nothing to {args.action}")
        return 0
    try:
        return args.make(args, root)
    except ValueError as error:  # of a file or of the network: no wrong use
        raise Unreadable(str(error)) from error


def _path(args, root: Path) -> None:
    from lrsc.datasets.raw import cache

    print(f"data root     {root}{'' if root.is_dir() else ' (not there yet)'}")
    print(f"cache folder  {cache.folder()}")


def _list(args, root: Path) -> None:
    from lrsc.datasets.raw import on_disk

    rows = on_disk.listing(root)
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    columns = ("name", "present", "size", "licence", "source", "needs")
    shown = [row | {"size": _bytes(row["size"]), "needs": ", ".join(row["needs"])} for row in rows]
    print(options.table(columns, [[row[c] for c in columns] for row in shown]))
    print(f"present: in {root}, not verified (lrsc data check); size: of the download")


def _get(args, root: Path) -> int:
    from lrsc.datasets.raw import on_disk

    return _findings(on_disk.get(args.name, root), complete=True)


def _check(args, root: Path) -> int:
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


def _bytes(n: int | None) -> str:
    return "" if n is None else f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
