"""Choosing what to label next: strategies are functions of arrays that never see a model, a file or a configuration.

To add one, write a function `(pool, k, rng, **options) -> Picks` and give it a line in `REGISTRY`: `--strategy`, every
sweep and the contract test find it there.
"""

from al.errors import nearest
from al.strategies.base import Picks, Pool, Select, Strategy, StrategySchedule
from al.strategies.coverage import coreset, probcover
from al.strategies.diverse import alfa_mix, cluster_margin, dropquery
from al.strategies.fisher import bait
from al.strategies.gradient import badge
from al.strategies.herding import maxherding, uherding
from al.strategies.scores import (
    NOISE_OPTIONS,
    least_confidence,
    mutual_information,
    predictive_entropy,
    ranking,
    smallest_margin,
    uniform,
)
from al.strategies.typiclust import typiclust, typiclust_typical

REGISTRY: dict[str, Strategy] = {
    "stratified": Strategy(uniform, baseline=True, summary="no acquisition: the whole variant is labelled at once"),
    "random": Strategy(uniform, summary="any unlabelled image"),
    "uncertainty": Strategy(
        ranking(least_confidence), ("probs",), NOISE_OPTIONS, summary="lowest top probability; Lewis & Gale 1994"
    ),
    "margin": Strategy(
        ranking(smallest_margin, least=-1.0),
        ("probs",),
        NOISE_OPTIONS,
        summary="closest two classes; Scheffer et al. 2001",
    ),
    "entropy": Strategy(
        ranking(predictive_entropy), ("probs",), NOISE_OPTIONS, summary="highest entropy; Settles 2009"
    ),
    "typiclust": Strategy(
        typiclust,
        ("probs", "features"),
        NOISE_OPTIONS,
        summary="uncertain and far from its cluster's centre; Petersen 2024",
    ),
    "typiclust_typical": Strategy(
        typiclust_typical,
        ("features",),
        ("typiclust_max_clusters", "typiclust_members"),
        needs_labelled=True,
        summary="most typical image of each unlabelled cluster; Hacohen et al. 2022",
    ),
    "probcover": Strategy(
        probcover,
        ("features",),
        ("probcover_delta", "probcover_purity"),
        needs_labelled=True,
        version=2,
        summary="most uncovered neighbours within a radius; Yehuda et al. 2022",
    ),
    "coreset": Strategy(
        coreset,
        ("features",),
        needs_labelled=True,
        summary="farthest from all that is labelled; Sener & Savarese 2018",
    ),
    "maxherding": Strategy(
        maxherding,
        ("features",),
        ("herding_candidates",),
        needs_labelled=True,
        summary="covers most of the pool by a smooth kernel; Bae et al. 2024",
    ),
    "uherding": Strategy(
        uherding,
        ("probs", "features", "activations"),
        ("herding_candidates",),
        needs_labelled=True,
        summary="covers most of the uncertain part of the pool; Bae et al. 2025",
    ),
    "alfa_mix": Strategy(
        alfa_mix,
        ("probs", "activations", "head"),
        needs_labelled=True,
        summary="class changes when a little of a labelled class is mixed in; Parvaneh et al. 2022",
    ),
    "badge": Strategy(badge, ("probs", "activations"), summary="large and diverse gradients; Ash et al. 2020"),
    "bait": Strategy(
        bait,
        ("probs", "activations"),
        ("bait_ridge",),
        needs_labelled=True,
        version=2,
        summary="lowers the last layer's uncertainty most; Ash et al. 2021, Huseljic et al. 2024",
    ),
    "bald": Strategy(
        ranking(mutual_information, "mc_probs"),
        ("mc_probs",),
        NOISE_OPTIONS,
        summary="dropout passes disagree most; Gal et al. 2017",
    ),
    "cluster_margin": Strategy(
        cluster_margin,
        ("probs", "features"),
        ("cluster_margin_candidates", "cluster_margin_size"),
        needs_labelled=True,
        version=2,
        summary="small margins from many clusters; Citovsky et al. 2021",
    ),
    "dropquery": Strategy(
        dropquery,
        ("probs", "features", "drop_votes"),
        summary="prediction not robust to dropped features, spread over clusters; Gupte et al. 2024",
    ),
}


def strategy_names(strategy: str) -> tuple[str, ...]:
    """The names in `NAME`, or in `FIRST,SECOND` of a schedule.

    Raises:
        ValueError: an unknown name, more than two, the same twice, or a baseline in a schedule.
    """
    names = tuple(name.strip() for name in strategy.split(","))
    for name in names:
        if name not in REGISTRY:
            raise ValueError(f"no such strategy; {nearest(name, REGISTRY)}")
    if len(names) > 2:
        raise ValueError(f"{len(names)} strategies; name one, or two of which the second takes over after switch_after")
    if len(set(names)) < len(names):
        raise ValueError("the same strategy twice; name it once")
    if len(names) == 2 and any(REGISTRY[name].baseline for name in names):
        raise ValueError("a baseline acquires nothing, so nothing can follow it or go before it; name two others")
    return names


def get_strategy(strategy: str, switch_after: int = 3) -> Strategy | StrategySchedule:
    """The strategy of that name, or of `FIRST,SECOND` the schedule of the two.

    Raises:
        ValueError: see `strategy_names`.
    """
    names = strategy_names(strategy)
    if len(names) == 1:
        return REGISTRY[strategy]
    return StrategySchedule(*(REGISTRY[name] for name in names), switch_after)


__all__ = ["REGISTRY", "Picks", "Pool", "Select", "Strategy", "StrategySchedule", "get_strategy", "strategy_names"]
