"""The command line: one option for every field of `RunConfig`, and what a sweep sets on top of it."""

import argparse
import sys
from collections.abc import Sequence
from typing import Literal, get_args, get_origin

from al.arguments import Parser
from al.config import RunConfig
from al.dataset_defaults import defaults_of
from al.errors import UserError, nearest
from al.tracking.sweep import sweep_parameters, under_sweep

GROUPS = {
    "dataset": "data",
    "strategy": "what is labelled, and when",
    "typiclust_max_clusters": "settings of single strategies",
    "class_weights": "model and training",
    "seed": "random seeds",
    "clip_model": "zero-shot labels",
    "device": "where and how a run is carried out",
}
"""Headings of `--help`, by the first field under each."""


def read_parameters(arguments: Sequence[str], description: str) -> RunConfig:
    """The configuration from a command line and, where a sweep started this process, from its parameters.

    A sweep's parameters win. An argument that is no parameter is an error on a command line; under a sweep,
    whose agent may add some of its own, it is passed over with a warning.

    Raises:
        UserError: an unknown parameter or argument, or a value against its rule.
    """
    options, unknown = _parser(description).parse_known_args(arguments)
    if unknown and not under_sweep():
        name = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
        raise UserError(f"{unknown[0]}: unknown argument; {nearest(name, RunConfig.model_fields)}; see --help")
    for argument in unknown:
        print(f"warning: argument {argument} is no parameter and is passed over", file=sys.stderr)
    return RunConfig.from_mapping(vars(options) | sweep_parameters())


def add_field(
    parser: argparse._ActionsContainer, name: str, *, text: str = "", default: object = None, prefix: str = ""
) -> None:
    """Add a field of RunConfig as an option; help shows it with `_`, and it is taken with `-` too.

    Args:
        parser: a parser, or a group of one.
        name: of the field.
        text: shown in place of the field's own description.
        default: shown in place of the field's own default.
        prefix: goes before the field's name in the parsed options.
    """
    field = RunConfig.model_fields[name]
    default = _default(name) if default is None else default
    text = f"{text or field.description} [{default}]".replace("%", "%%")
    flag = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
    for spelling in dict.fromkeys([name, name.replace("_", "-")]):
        parser.add_argument(f"--{spelling}", dest=prefix + name, metavar=_metavar(name), help=text, **flag)
        text = argparse.SUPPRESS  # the same option once more


def _default(name: str) -> str:
    """As help shows it: the default, and those of the data sets that bring another."""
    default = RunConfig.model_fields[name].default
    own = "".join(f"; {dataset}: {value}".lower() for dataset, value in defaults_of(name).items())
    return ("unset" if default is None else str(default).lower()) + own


def _metavar(name: str) -> str:
    """What stands for a value in help: the choices, where there are few."""
    kind = RunConfig.model_fields[name].annotation
    if kind is bool:
        return "true|false"
    return "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else "VALUE"


def _parser(description: str) -> Parser:
    parser = Parser(
        "train.py",
        usage="train.py [--NAME=VALUE ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    group: argparse._ActionsContainer = parser
    for name in RunConfig.model_fields:
        if name in GROUPS:
            group = parser.add_argument_group(GROUPS[name])
        add_field(group, name)
    return parser
