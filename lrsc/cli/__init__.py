"""The command `lrsc`: one file for each group of its commands."""

from lrsc.cli.main import main, parser
