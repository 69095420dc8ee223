"""How often the report's verdict claims what is not so, and finds what is, on simulated learning curves.

    python -m benchmarks.verdict_simulation                # every table, half an hour on one core
    python -m benchmarks.verdict_simulation --draws=300    # the same, roughly

The curves follow 600 runs of logistic regression on scikit-learn's digits (60 seeds, ten strategies): all strategies
of a split seed share the first labels and the seed's luck; the noise of neighbouring label counts correlates by 0.8;
random sampling scatters 1.4 times as much as the others, so two differences from it correlate by more than 1/2.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import digamma, polygamma

from sweeps.report.comparisons import compare
from sweeps.report.inference import Evidence, HeadlineKind, Verdict, judge
from sweeps.report.label_savings import Baseline, Curve
from sweeps.report.largest_t import Null
from sweeps.report.statistics import holm

AUTOCORRELATION = 0.8
CONTROL = "random"


@dataclass(frozen=True)
class Design:
    """What is simulated."""

    rivals: int = 4
    """Strategies beside random sampling."""
    seeds: int = 5
    effects: tuple[float, ...] = ()
    """Points that a strategy lies above random sampling at every count after the first; zero where none is given."""
    control_noise: float = 1.4
    """Noise of random sampling, times that of the others."""
    last_noise: float = 1.0
    """Noise of the last strategy, times that of the others."""
    baseline: bool = False
    stops_at_baseline: bool = False
    targets: tuple[float, ...] = ()
    counts: int = 10
    first: int = 50
    last: int = 400
    noise: float = 1.2
    """Standard deviation of one test accuracy at the first count, in points; it falls to half at the last."""

    @property
    def names(self) -> tuple[str, ...]:
        return (CONTROL, *(f"strategy_{k}" for k in range(1, self.rivals + 1)))

    @property
    def labels(self) -> NDArray[np.float64]:
        return np.unique(np.round(np.linspace(self.first, self.last, self.counts)))


def accuracies(design: Design, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[draws, strategies, seeds, counts] percent; random sampling comes first."""
    labels, shape = design.labels, (draws, len(design.names), design.seeds)
    mean = 96 - 14 * (labels / design.first) ** -0.9  # [K]: 82 % at the first labels, 94 % at the last
    fade = np.linspace(1, 0.5, len(labels))
    seed = 1.5 * rng.standard_normal((draws, 1, design.seeds, 1)) * fade
    scale = np.ones(len(design.names))
    scale[0], scale[-1] = design.control_noise, scale[-1] * (design.last_noise if design.rivals else 1)
    noise = np.empty((*shape, len(labels)))
    noise[..., 0] = rng.standard_normal((draws, 1, design.seeds))  # the first labels are everybody's
    fresh = rng.standard_normal((*shape, len(labels) - 1))
    own = np.zeros(shape)
    for k in range(1, len(labels)):
        own = AUTOCORRELATION * own + (1 - AUTOCORRELATION**2 if k > 1 else 1) ** 0.5 * fresh[..., k - 1]
        noise[..., k] = own
    noise[..., 1:] *= scale[:, None, None]
    effect = np.zeros((len(design.names), len(labels)))
    effect[1 : 1 + len(design.effects), 1:] = np.array(design.effects)[:, None]
    return np.clip(mean + seed + effect[:, None] + design.noise * fade * noise, 0, 100)


def draw(design: Design, rng: np.random.Generator) -> Evidence:
    """The evidence of one simulated setting; losses fall as accuracies rise."""
    curves, labels = accuracies(design, 1, rng)[0], design.labels  # [S, seeds, K]
    losses = (100 - curves) / 20 + 0.03 * rng.standard_normal(curves.shape)
    seeds = range(design.seeds)
    baseline = {}
    if design.baseline:
        # As many images as three quarters of the labels: what random sampling reaches there, in a run of its own.
        own, at = accuracies(replace(design, rivals=0, effects=()), 1, rng)[0, 0], 3 * len(labels) // 4
        shift = curves[0].mean() - own.mean()
        found = [float(own[seed, at] + shift) for seed in seeds]
        baseline = {s: Baseline(found[s], float(labels[-1]), (100 - found[s]) / 20) for s in seeds}
    made: dict[str, dict[int, Curve]] = {name: {} for name in design.names}
    for k, name in enumerate(design.names):
        for seed in seeds:
            end, beat = len(labels), None
            if design.stops_at_baseline:
                won = (curves[k, seed] > baseline[seed].accuracy) & (losses[k, seed] < baseline[seed].loss)
                end, beat = (int(np.argmax(won)) + 1, True) if won.any() else (end, False)
            made[name][seed] = Curve(
                labels[:end], labels[:end], curves[k, seed, :end], losses[k, seed, :end], beat_baseline=beat
            )
    return Evidence(made, CONTROL, baseline, design.stops_at_baseline, design.targets)


def heights(design: Design, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[draws, strategies, seeds] areas over log labels, as the verdict takes them."""
    x = np.log(design.labels)
    return np.trapezoid(accuracies(design, draws, rng), x, axis=-1) / (x[-1] - x[0])


def paired_sd(design: Design) -> float:
    """Standard deviation, over seeds, of the first strategy's area minus that of random sampling, in points."""
    found = heights(replace(design, effects=()), 4000, np.random.default_rng(0))
    return float((found[:, 1] - found[:, 0]).std())


def named(areas: NDArray[np.float64]) -> dict[str, dict[int, float]]:
    """[S, n] areas as `compare` takes them; the control is "0"."""
    return {str(k): dict(enumerate(map(float, row))) for k, row in enumerate(areas)}


def tolerated(rate: float, draws: int) -> float:
    """A share of `draws` that something of this probability exceeds once in two hundred simulations."""
    return rate + 2.6 * (rate * (1 - rate) / draws) ** 0.5


# Procedures: areas [R, S, n], the control first -> corrected p [R, S - 1]


def paired_t_holm(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    p = stats.ttest_1samp(areas[:, 1:] - areas[:, :1], 0, axis=-1).pvalue
    return np.array([holm(list(row)) for row in p])


def sign_flips(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest |t| over all sign flips of whole seeds; with n seeds no p is below 2 / 2^n."""
    differences = areas[:, 1:] - areas[:, :1]
    n = differences.shape[-1]
    signs = 1 - 2 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)  # [F, n]
    means = np.einsum("rmn,fn->rfm", differences, signs) / n
    variances = ((differences**2).mean(axis=-1)[:, None] - means**2) / (n - 1)
    t = np.abs(means) / np.maximum(variances, 1e-12) ** 0.5  # [R, F, m]
    return (t.max(axis=-1)[:, :, None] >= t[:, :1] - 1e-9).mean(axis=1)


def dunnett(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """One variance for everybody: the residual of strategy + seed."""
    strategies, n = areas.shape[1:]
    residual = areas - areas.mean(1, keepdims=True) - areas.mean(2, keepdims=True) + areas.mean((1, 2), keepdims=True)
    df = (strategies - 1) * (n - 1)
    error = (2 * (residual**2).sum(axis=(1, 2)) / df / n) ** 0.5
    t = (areas[:, 1:] - areas[:, :1]).mean(axis=-1) / error[:, None]
    return _tails(Null(strategies - 1, df, "control"), t)


def empirical_bayes(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances shrunk towards each other as far as their spread tells (Smyth, SAGMB 3, 2004), then Holm."""
    differences = areas[:, 1:] - areas[:, :1]
    m, n = differences.shape[1:]
    if m == 1:
        return paired_t_holm(areas)
    own, f = differences.var(axis=-1, ddof=1), n - 1
    logs = np.log(own) - digamma(f / 2) + np.log(f / 2)
    excess = logs.var(axis=1, ddof=1) - polygamma(1, f / 2)
    prior = np.where(excess > 0, 2 * _inverse_trigamma(np.maximum(excess, 1e-6)), 1e6)[:, None]
    middle = np.exp(logs.mean(axis=1, keepdims=True) + digamma(prior / 2) - np.log(prior / 2))
    variance = (prior * middle + f * own) / (prior + f)
    t = differences.mean(axis=-1) / (variance / n) ** 0.5
    p = 2 * stats.t.sf(np.abs(t), np.minimum(prior + f, f * m))
    return np.array([holm(list(row)) for row in p])


def _inverse_trigamma(x: NDArray[np.float64]) -> NDArray[np.float64]:
    y = 0.5 + 1 / x
    for _ in range(20):
        value = polygamma(1, y)
        y = y + value * (1 - value / x) / polygamma(2, y)
    return y


def moderated_t(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the report does."""
    return np.array([[found.p for found in compare(named(row), "0").with_control] for row in areas])


def _tails(null: Null, t: NDArray[np.float64]) -> NDArray[np.float64]:
    at = np.linspace(0, np.log1p(np.abs(t).max() + 1), 400)
    return np.interp(np.log1p(np.abs(t)), at, [null.tail(value) for value in np.expm1(at)])


Procedure = Callable[[NDArray[np.float64]], NDArray[np.float64]]
PROCEDURES: Mapping[str, Procedure] = {
    "paired t, Holm": paired_t_holm,
    "sign flips, max t": sign_flips,
    "Dunnett, one variance": dunnett,
    "empirical Bayes, Holm": empirical_bayes,
    "moderated t, max t": moderated_t,
}
NOISES = {
    "as measured": {},
    "equal noise": {"control_noise": 1.0},
    "control scatters twice": {"control_noise": 2.0},
    "one strategy twice": {"last_noise": 2.0},
}


def compare_procedures(draws: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """False claims against random sampling in percent of settings, and finds of one effect of two paired deviations."""
    for rivals in (1, 4, 11):
        for seeds in (3, 5, 10):
            for noise, fields in NOISES.items():
                design = Design(rivals=rivals, seeds=seeds, **fields)
                null = heights(design, draws, rng)
                found = heights(design, draws, rng)
                found[:, 1] += 2 * paired_sd(design)
                for name, procedure in PROCEDURES.items():
                    yield {
                        "procedure": name,
                        "strategies": rivals + 1,
                        "seeds": seeds,
                        "noise": noise,
                        "false claims %": 100 * float((procedure(null).min(axis=1) < 0.05).mean()),
                        "power %": 100 * float((procedure(found)[:, 0] < 0.05).mean()),
                    }


LOOKS = {"at 5": (5,), "at 5 and at 9": (5, 9), "at 3, 4, 5, 6, 8 and 10": (3, 4, 5, 6, 8, 10)}


def repeated_looks(draws: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """False claims against random sampling in percent of settings, by someone who adds seeds until there is one."""
    for rivals in (1, 4, 11):
        null = heights(Design(rivals=rivals, seeds=max(map(max, LOOKS.values()))), draws, rng)
        for title, looks in LOOKS.items():
            claimed = np.any([moderated_t(null[..., :seeds]).min(axis=1) < 0.05 for seeds in looks], axis=0)
            yield {"looks at seeds": title, "strategies": rivals + 1, "any false claim %": 100 * float(claimed.mean())}


def claims(verdict: Verdict) -> set[tuple[str, str]]:
    """Pairs of which the verdict says that the first is ahead of the second."""
    every = (*verdict.comparisons.with_control, *verdict.comparisons.among)
    return {(c.a, c.b) if c.estimate > 0 else (c.b, c.a) for c in every if c.p < verdict.level}


def false_claims(verdict: Verdict, effects: Mapping[str, float]) -> int:
    """Claims of the verdict that are not so, given the true effects."""
    return sum(effects.get(a, 0.0) <= effects.get(b, 0.0) for a, b in claims(verdict))


SETTINGS = {
    "no effect": {},
    "no effect, baseline and unreachable targets": {"baseline": True, "targets": (85.0, 99.0)},
    "no effect, stops at the baseline": {"baseline": True, "stops_at_baseline": True},
    "half are better by 2 points": {"half": 2.0},
    "half are better by 10 points": {"half": 10.0},
}


def whole_verdicts(draws: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """Verdicts with any false claim, of the whole family: against random sampling and among the strategies."""
    for rivals in (1, 4, 11):
        for seeds in (3, 5, 10):
            for title, fields in SETTINGS.items():
                known = {name: value for name, value in fields.items() if name != "half"}
                effects = (fields["half"],) * ((rivals + 1) // 2) if "half" in fields else ()
                design = Design(rivals=rivals, seeds=seeds, effects=effects, **known)
                truth = dict(zip(design.names[1:], effects))
                wrong = [false_claims(judge(draw(design, rng)), truth) > 0 for _ in range(draws)]
                yield {
                    "setting": title,
                    "strategies": rivals + 1,
                    "seeds": seeds,
                    "any false claim %": 100 * float(np.mean(wrong)),
                }


def headlines(draws: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """Where one strategy is better than all others by 3 points at every count: who is named."""
    for rivals in (2, 4, 11):
        for seeds in (2, 3, 5, 10):
            design = Design(rivals=rivals, seeds=seeds, effects=(3.0,), baseline=True)
            found = [judge(draw(design, rng)).headline for _ in range(draws)]
            yield {
                "strategies": rivals + 1,
                "seeds": seeds,
                "another is named": sum(h.strategy not in (None, design.names[1]) for h in found),
                "best %": 100 * float(np.mean([h.kind is HeadlineKind.BEST for h in found])),
                "named %": 100 * float(np.mean([h.strategy == design.names[1] for h in found])),
            }


def table(title: str, rows: Iterator[dict[str, object]], path: Path) -> None:
    """Prints rows as they come and writes them to a CSV file."""
    print(f"\n{title}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
                print("  ".join(f"{name:>22}" for name in row))
            writer.writerow(row)
            shown = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values())
            print("  ".join(f"{value:>22}" for value in shown), flush=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verdict_simulation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--draws", type=int, default=2000, help="simulated settings in each line")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder of the CSV files")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(42)
    parts = {
        "procedures": compare_procedures,
        "looks": repeated_looks,
        "verdicts": whole_verdicts,
        "headlines": headlines,
    }
    for name, part in parts.items():
        table(part.__doc__.splitlines()[0], part(options.draws, rng), options.out / f"verdict_{name}.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
