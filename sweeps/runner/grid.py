"""Sweep files without a server: which parameters each run of a W&B sweep file gets.

A grid comes in W&B's order: parameter names sorted, the product of their values, the last name changing fastest.
`method: random` is drawn here from the sweep's seed, addressed by run and parameter; W&B's own draws differ.
"""

import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from al.config import RunConfig
from al.errors import UserError, nearest
from al.seeds import rng
from sweeps.runner.command import ENVIRONMENT_MACRO, MACROS

DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
KNOWN_KEYS = (
    *("program", "command", "method", "metric", "parameters", "name", "description", "run_cap"),
    *("project", "entity", "early_terminate"),
)
TEXTS = ("name", "project", "entity")
"""Keys whose value names something."""
MOST_RUNS = 100_000
"""Runs that a grid may have; more are a mistake, and would not fit into memory."""
NEEDS_SERVER = "start it with `wandb sweep FILE` and `wandb agent SWEEP_ID` instead"


@dataclass(frozen=True)
class SweepFile:
    """A checked sweep file: `content` is what W&B is given, `runs` the parameters of each run in order.

    Where W&B's server chooses the values there are no `runs`, and one of `configs` that stands for them all.
    """

    path: Path
    content: dict[str, object]
    runs: tuple[dict[str, object], ...]
    configs: tuple[RunConfig, ...]

    @property
    def name(self) -> str:
        return str(self.content.get("name") or self.path.stem)

    @property
    def count(self) -> int | None:
        """Runs in all; None where W&B's server makes more until the sweep is stopped."""
        return len(self.runs) or self.content.get("run_cap")

    @property
    def program(self) -> str:
        return str(self.content["program"])

    @property
    def command(self) -> tuple[str, ...]:
        return tuple(str(part) for part in self.content.get("command") or DEFAULT_COMMAND)


def expand(
    path: str | os.PathLike, overrides: Mapping[str, Any] | None = None, seed: int = 42
) -> list[dict[str, object]]:
    """The parameters of every run of a sweep file, in order; see `load`."""
    return list(load(path, overrides, seed).runs)


def load(
    path: str | os.PathLike, overrides: Mapping[str, Any] | None = None, seed: int = 42, *, on_server: bool = False
) -> SweepFile:
    """Reads and checks a sweep file; every combination must be a valid `RunConfig`.

    Args:
        overrides: parameters that get this one value in every run, whatever the file says.
        seed: of the draws of `method: random`.
        on_server: W&B's server hands the runs out, so it may choose their values and end them early.

    Raises:
        UserError: unreadable or malformed file, unknown key or parameter, value against its rule, no runs,
            no such program, or a method that needs W&B's server.
    """
    return load_content(Path(path), _read(Path(path)), overrides, seed, on_server=on_server)


def load_content(
    path: Path,
    content: dict[str, object],
    overrides: Mapping[str, Any] | None = None,
    seed: int = 42,
    *,
    on_server: bool = False,
) -> SweepFile:
    """As `load`, of a sweep file's content; `path` names it in errors."""
    try:
        _check_keys(content, on_server)
        parameters = content["parameters"] | {name: {"value": value} for name, value in (overrides or {}).items()}
        texts = {key: str(content[key]) for key in TEXTS if content.get(key) is not None}
        content = content | texts | {"parameters": parameters}
        if on_server and content.get("method") == "bayes":
            return SweepFile(path, content, (), (_config(_first_values(content)),))
        runs = tuple(_runs(content, seed))
        if not runs:
            raise UserError("parameters: the grid is empty; give every parameter at least one value")
        configs = tuple(map(_config, runs))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return SweepFile(path, content, runs, configs)


def _config(parameters: Mapping[str, Any]) -> RunConfig:
    for name, value in parameters.items():
        field = RunConfig.model_fields.get(name)
        if isinstance(value, bool) and field and field.annotation is not bool:
            raise UserError(f"{name}={value}: a truth value, which it does not take ({field.description})")
    return RunConfig.from_mapping(parameters)


def _read(path: Path) -> dict[str, object]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}); give the path of a sweep file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{path}: {where}not YAML: {reason}; put the line right") from None
    except RecursionError:
        raise UserError(f"{path}: nested deeper than any sweep file is; close the brackets") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a sweep file; it must be a mapping with program, method and parameters")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a repeated key is an error: otherwise the last one silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = repr(self.construct_object(key_node, deep=True))
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _check_keys(content: Mapping[str, Any], on_server: bool) -> None:
    for key in content:
        if key not in KNOWN_KEYS:
            raise UserError(f"{key}: no such key in a sweep file; {nearest(str(key), KNOWN_KEYS)}")
    program = content.get("program")
    if not isinstance(program, str) or not program:
        raise UserError("program: missing; name the script that the sweep runs, for example `program: train.py`")
    if not Path(program).is_file():
        raise UserError(f"program={program!r}: no such file in {Path.cwd()}; start from the project's folder")
    for key in TEXTS:
        if not _is_text(content.get(key, "")):
            raise UserError(f"{key}={content[key]!r}: not a text of one line; write it in quotes, or leave it out")
    if not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise UserError("parameters: missing or empty; a sweep needs at least one, as `name: {values: [...]}`")
    for name in content["parameters"]:
        if not isinstance(name, str):
            raise UserError(f"parameters: {name!r} is not a name; {nearest(str(name), RunConfig.model_fields)}")
    metric = content.get("metric", {"name": ""})
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError(f"metric={metric!r}: names nothing; write metric: {{name: val/loss, goal: minimize}}")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise UserError(f"metric: goal={metric['goal']!r}; use minimize or maximize")
    _check_command(content.get("command", []))
    if content.get("early_terminate") is not None and not on_server:
        raise UserError(
            f"early_terminate: W&B's server decides which runs to stop early; {NEEDS_SERVER}, or leave it out"
        )


def _is_text(value: Any) -> bool:
    """Numbers and dates are, as YAML reads some names so, and nothing is no name."""
    return value is None or (
        isinstance(value, str | int | float | date) and not isinstance(value, bool) and str(value).isprintable()
    )


def _check_command(command: Any) -> None:
    if not isinstance(command, list):
        raise UserError("command: not a list; write one part a line, or leave it out")
    for part in map(str, command):
        macro = part[2:-1] if part.startswith("${") and part.endswith("}") else None
        if macro is not None and macro not in MACROS and not ENVIRONMENT_MACRO.fullmatch(part):
            raise UserError(f"command: {part} is no macro of W&B's; {nearest(macro, MACROS)}")


def _runs(content: Mapping[str, Any], seed: int) -> Iterator[dict[str, object]]:
    method, cap = content.get("method"), content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
        raise UserError(f"run_cap={cap!r}: not a whole number above 0; it is how many runs to make at most")
    parameters = {name: _specification(name, content["parameters"][name]) for name in sorted(content["parameters"])}
    if method == "grid":
        choices = [_grid_values(name, given) for name, given in parameters.items()]
        count = math.prod(map(len, choices))
        if max(min(count, cap or count), *map(len, choices)) > MOST_RUNS:
            raise UserError(f"parameters: a grid of {count:,} runs; list fewer values, or use method: random")
        combinations = (dict(zip(parameters, values, strict=True)) for values in itertools.product(*choices))
        return itertools.islice(combinations, cap)
    if method == "random":
        if cap is None:
            raise UserError("run_cap: missing, and method=random has no end of its own; say how many runs to make")
        return ({name: _draw(name, given, seed, run) for name, given in parameters.items()} for run in range(cap))
    if method == "bayes":
        raise UserError(f"method='bayes': W&B's server chooses the values; {NEEDS_SERVER}, or use grid or random")
    raise UserError(f"method={method!r}: no such method; use grid or random")


def _first_values(content: Mapping[str, Any]) -> dict[str, object]:
    """A run of a sweep whose values the server chooses: constants, one of each list, the least of each range."""
    first = {}
    for name, given in content["parameters"].items():
        known = _specification(name, given)
        match known["distribution"]:
            case "constant":
                first[name] = known["value"]
            case "categorical":
                first[name] = _draw_value(name, known, rng(0, 0, name))
            case _:
                first[name] = _bounds(name, known)[0]
    return first


def _specification(name: str, given: Any) -> dict[str, object]:
    """A parameter's entry with its distribution filled in, as W&B fills it in.

    Raises:
        UserError: not an entry, nested, or without value, values or bounds.
    """
    if not isinstance(given, dict):
        raise UserError(f"{name}={given!r}: not a parameter; write {name}: {{value: ...}} or {{values: [...]}}")
    if "parameters" in given:
        raise UserError(f"{name}: nested parameters; train.py's parameters are flat, list each by its own name")
    if "value" in given:
        return {"distribution": "constant", "value": given["value"]}
    if "values" in given:
        if not isinstance(given["values"], list):
            raise UserError(f"{name}: values={given['values']!r} is not a list; write [a, b], or use value")
        return {"distribution": "categorical"} | given
    bounds = [given.get("min"), given.get("max")]
    if "distribution" not in given and all(isinstance(bound, int) for bound in bounds):
        return given | {"distribution": "int_uniform"}
    if "distribution" not in given and all(isinstance(bound, float) for bound in bounds):
        return given | {"distribution": "uniform"}
    if "distribution" not in given:
        raise UserError(f"{name}: neither value nor values nor min and max of one kind; give one of them")
    if (needed := {"constant": "value", "categorical": "values"}.get(str(given["distribution"]))) is not None:
        raise UserError(f"{name}: distribution={given['distribution']} without {needed}; give {needed}")
    return given


def _grid_values(name: str, given: Mapping[str, Any]) -> Sequence[Any]:
    """What a grid runs through for one parameter; [] where `values` is empty."""
    match given["distribution"]:
        case "constant":
            return [given["value"]]
        case "categorical":
            return given["values"]
        case "int_uniform":
            low, high = map(int, _bounds(name, given))
            if high - low >= sys.maxsize:  # which no range can count
                raise UserError(f"{name}: min={low}, max={high}: too many values for a grid; use method: random")
            return range(low, high + 1)
    raise UserError(f"{name}: a grid cannot run through {given['distribution']!r}; list the values")


def _draw(name: str, given: Mapping[str, Any], seed: int, run: int) -> Any:
    """One value of a random sweep, the same whichever other parameters the file has."""
    random = rng(seed, run, f"sweep/{name}")
    kind = given["distribution"]
    if kind == "constant":
        return given["value"]
    if kind == "categorical":
        return _draw_value(name, given, random)
    low, high = _bounds(name, given)
    match kind:
        case "int_uniform":
            return int(random.integers(int(low), int(high), endpoint=True))
        case "uniform":
            return float(random.uniform(low, high))
        case "q_uniform":
            step = given.get("q", 1)
            if not _is_number(step) or step <= 0:
                raise UserError(f"{name}: q={step!r}; give the step between values, a number above 0")
            return float(np.clip(round(random.uniform(low, high) / step) * step, low, high))
        case "log_uniform_values" if low > 0:
            return float(np.clip(math.exp(random.uniform(math.log(low), math.log(high))), low, high))
        case "log_uniform_values":
            raise UserError(f"{name}: min={low} has no logarithm; log_uniform_values needs min above 0")
    kinds = "constant, categorical, int_uniform, uniform, q_uniform, log_uniform_values"
    raise UserError(f"{name}: distribution={kind!r} is not drawn without W&B's server; use one of {kinds}")


def _draw_value(name: str, given: Mapping[str, Any], random: np.random.Generator) -> Any:
    values, weights = given["values"], given.get("probabilities")
    if not values:
        raise UserError(f"{name}: values is empty; give at least one")
    fit = isinstance(weights, list) and len(weights) == len(values) and all(map(_is_number, weights))
    if weights is not None and not (fit and min(weights) >= 0 and abs(sum(weights) - 1) < 1e-6):
        raise UserError(f"{name}: probabilities={weights}; give one for each of values, adding up to 1")
    return values[int(random.choice(len(values), p=weights))]


def _bounds(name: str, given: Mapping[str, Any]) -> tuple[float, float]:
    low, high = given.get("min"), given.get("max")
    if not (_is_number(low) and _is_number(high) and low <= high):
        raise UserError(f"{name}: min={low!r}, max={high!r}; give two numbers, the smaller as min")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parse_overrides(assignments: Sequence[str]) -> dict[str, object]:
    """`["lr=0.01", "augment=false"]` as `{"lr": 0.01, "augment": False}`; values are read as YAML.

    Raises:
        UserError: an assignment without a name or without `=`.
    """
    overrides = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UserError(f"--set {assignment}: not an assignment; write --set name=value")
        try:
            overrides[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            overrides[name] = value
    return overrides
