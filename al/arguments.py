"""Command lines whose complaints are one line, as all other errors of the suite are. Imports nothing heavy."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse without the usage before a complaint, which `--help` shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see --help\n")


def folder_name(text: str) -> str:
    """The type of an option that names a folder; nothing is no name for the current one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("names nothing; give a folder, or . for the current one")
    return text
