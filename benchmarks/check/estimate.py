"""What the rates say: how many runs at a time are fastest here, and how long the study would take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.check.rates import SCORING, TRAINING
from benchmarks.check.results import Result
from benchmarks.check.together import BY_MPS
from benchmarks.measuring import number
from sweeps.runner.cards import MPS_DAEMON, mps_is_running

STEPS, SCORED = 814_215, 209_000_000
"""Work of the study's 220 runs at 30 epochs each, as `sweeps/study` has them."""
GAIN = 1.05
"""More runs at a time count as better where all together are this many times as fast."""


@dataclass(frozen=True)
class Best:
    """How many runs at a time train fastest together."""

    runs: int
    steps: float
    """A second, of all of them."""
    with_mps: bool


def best_of(results: Sequence[Result]) -> Best | None:
    """Fewest runs at a time first: more of them count where they are clearly faster."""
    best = None
    for result in results:
        count, _, rest = result.name.partition(" run")
        if not count.isdigit() or result.value is None:
            continue
        if best is None or result.value > GAIN * best.steps:
            best = Best(int(count), result.value, rest.endswith(BY_MPS))
    return best


def of_the_study(results: Sequence[Result]) -> list[Result]:
    """Its time from the rates above: without selection, start-up, and what is written down.

    Scoring is taken to be as fast as that of one run, however many there are: a pass fills a card by itself.
    """
    rates = {result.name: result.value for result in results}
    if not (rates.get(SCORING) and rates.get(TRAINING)):
        return [Result("estimate", "none: it needs the rates of scoring and of training")]
    scoring = SCORED / rates[SCORING]
    lines = []
    for name, steps in _ways(rates[TRAINING], best_of(results)):
        hours = (STEPS / steps + scoring) / 3600
        said = (
            f"{hours:.1f} hours = ({STEPS:,} steps / {number(steps)} a second + {SCORED // 10**6} million images / "
            f"{number(rates[SCORING])} a second) / 3600"
        )
        lines.append(Result(f"estimate, {name}", said, value=hours * 3600))
    return lines


def _ways(one: float, best: Best | None) -> Iterator[tuple[str, float]]:
    yield "study one by one", one
    if best is not None and best.runs > 1:
        yield f"study {best.runs} at a time{BY_MPS * best.with_mps}", best.steps


def advice(best: Best | None) -> str:
    """The command that the rates speak for."""
    if best is None or best.runs == 1:
        return ""
    first = f"`{MPS_DAEMON} -d`, then " if best.with_mps and not mps_is_running() else ""
    return f"fastest here: {first}`make study JOBS=auto OFFLINE=1`, {best.runs} runs at a time"
