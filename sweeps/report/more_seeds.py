"""How many more seeds would settle what is open, and the command that runs them."""

from collections.abc import Iterable
from pathlib import Path

from al.config import RunConfig
from sweeps.report.analysis import CONTROL, Analysis
from sweeps.report.cells import Setting
from sweeps.report.comparisons import MIN_SEEDS, Comparison
from sweeps.report.inference import HeadlineKind, Verdict
from sweeps.report.load import command_for
from sweeps.report.wording import called, number


def open_comparison(verdict: Verdict) -> Comparison | None:
    """The comparison that a reader would settle next: the leader with the reference, then with its rivals."""
    return next((found for found in verdict.unsettled if verdict.leader in (found.a, found.b)), None)


def what_settles(found: Comparison, margin: float) -> str:
    """How many more seeds would make a difference clear, or show that there is none that matters."""
    told = f"{called(found.a)} against {called(found.b)}"
    if found.more.clear is None and found.more.negligible is None:
        return f"{told}: more than 50 further seeds would be needed"
    parts = []
    if found.more.clear is not None:
        parts.append(
            f"{number(found.more.clear, 'more seed')} would make the difference clear if it is as large as it looks"
        )
    if found.more.negligible is not None:
        more = number(found.more.negligible, "more seed")
        parts.append(f"{more} would show that it is below {margin:g} point")
    return f"{told}: {' and '.join(parts)}"


def next_command(analysis: Analysis, results_dir: str | Path) -> str:
    """The command line that runs what would settle the answer; empty where nothing is open.

    That is random sampling on the seeds there are, where it is missing; enough seeds to test anything, where there are
    too few; the reference on seeds that it lacks, where it shares too few; else further seeds of the open comparison.
    """
    setting, verdict = analysis.setting, analysis.verdict
    first = 1 + max(run.seed for cell in setting.everyone for run in cell.runs)
    if verdict.headline.kind is HeadlineKind.FIRST_LABELS and analysis.control:
        return ""
    if analysis.control is None and verdict.reference is None and setting.cells:
        config = setting.config.model_copy(update={"strategy": CONTROL})
        return _loop(sorted({seed for cell in setting.cells for seed in cell.by_seed}), [config], results_dir)
    if verdict.seeds < MIN_SEEDS and len(setting.cells) > 1:
        seeds = _seeds_to_share(setting)
        return _loop(seeds, [cell.config for cell in setting.everyone], results_dir) if seeds else ""
    if verdict.reference and not verdict.reference_tested and (cell := analysis.cell(verdict.reference)):
        seeds = set().union(*(other.by_seed for other in setting.cells)) - set(cell.by_seed)
        return _loop(sorted(seeds), [cell.config], results_dir) if seeds else ""
    found = open_comparison(verdict)
    more = found.more if found else None
    counts = [n for n in (more.clear, more.negligible) if n is not None] if more else []
    if not counts:
        return ""
    cells = [setting.baseline] if setting.config.stop == "baseline" and setting.baseline else []
    cells += [cell for name in (found.a, found.b) if (cell := analysis.cell(name))]
    return _loop(range(first, first + min(counts)), [cell.config for cell in cells], results_dir)


def _seeds_to_share(setting: Setting) -> list[int]:
    """Seeds after which all strategies share enough to test anything: first those that some lack, then new ones."""
    have = [set(cell.by_seed) for cell in setting.cells]
    some, shared = set.union(*have), set.intersection(*have)
    first = 1 + max(run.seed for cell in setting.everyone for run in cell.runs)
    return [*sorted(some - shared), *range(first, first + MIN_SEEDS)][: max(0, MIN_SEEDS - len(shared))]


def _loop(seeds: Iterable[int], configs: Iterable[RunConfig], results_dir: str | Path) -> str:
    """A shell's loop over split seeds, each configuration once a seed."""
    default = RunConfig.model_fields["split_seed"].default
    plain = (config.model_copy(update={"split_seed": default}) for config in configs)
    runs = dict.fromkeys(f"{command_for(config, results_dir)} --split_seed=$seed" for config in plain)
    return f"for seed in {' '.join(map(str, seeds))}; do {'; '.join(runs)}; done"
