"""The command `lrsc`: one file for each group of its commands."""

from lrsc.cli.main import data_script, main

__all__ = ["data_script", "main"]
