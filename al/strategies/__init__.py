"""Choosing what to label next: strategies are functions of arrays that never see a model, a file or a configuration.

To add one, write a function `(pool, k, rng, **options) -> Picks` and give it a line in `REGISTRY`: it is then a value
of `--strategy` and of every sweep, and the contract test finds it there.
"""

from al.strategies.base import Picks, Pool, Select, Strategy
from al.strategies.coverage import coreset, probcover
from al.strategies.diverse import cluster_margin, dropquery
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
        ("typiclust_max_clusters",),
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
    "badge": Strategy(badge, ("probs", "activations"), summary="large and diverse gradients; Ash et al. 2020"),
    "bait": Strategy(
        bait,
        ("probs", "activations"),
        needs_labelled=True,
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


def get_strategy(name: str) -> Strategy:
    return REGISTRY[name]


__all__ = ["REGISTRY", "Picks", "Pool", "Select", "Strategy", "get_strategy"]
