"""The command `lrsc`: data | run | sweep | measure | tune | audit | repro | status | score | ..."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

import lrsc
from lrsc.cli import data, reach, report, results, train
from lrsc.cli.options import EPILOG, Parser
from lrsc.errors import BuildFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 failed or interrupted, 2 wrong use."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append("")  # for import paths of one's own code, my_code:my_data
    args, others = parser().parse_known_args(argv)
    if others:  # by the command's own parser, which knows what options there are
        args.parser.error(f"unrecognized arguments: {' '.join(others)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("distributed").setLevel(logging.WARNING)  # Dask tells each connection
    try:
        code = args.command(args) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whatever reads the output, as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is left of it
        return 1
    except (ValueError, OSError, BuildFailed) as error:  # every error that a user can cause
        print(f"lrsc: {error}", file=sys.stderr)
        of_files = isinstance(error, OSError | BuildFailed)  # a full disk, data that are missing
        return 1 if of_files else 2
    except (KeyboardInterrupt, SystemExit) as stopped:
        code = getattr(stopped, "code", 1)
        if isinstance(stopped, SystemExit) and code != 128 + signal.SIGTERM:
            raise
        print(
            f"\nlrsc: interrupted. {args.kept}; resume with the same command:\n  "
            + " ".join(["lrsc", *(sys.argv[1:] if argv is None else argv)]),
            file=sys.stderr,
        )
        return code


def parser() -> argparse.ArgumentParser:
    parser = Parser("lrsc", description=__doc__, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"lrsc {lrsc.__version__}")
    parser.set_defaults(kept="Finished runs and checkpoints are kept")
    commands = parser.add_subparsers(required=True, metavar="command")
    for group in (data, train, reach, report, results):
        group.add(commands)
    return parser
