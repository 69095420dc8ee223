"""The registry of acquisition strategies: functions of arrays, without torch and without W&B.

To add one, write a `Select` and give it a line in `REGISTRY`; the contract test finds it there.
"""

from al.strategies.base import Picks, Pool, Select, Strategy
from al.strategies.scores import least_confidence, predictive_entropy, ranking, smallest_margin, uniform
from al.strategies.typiclust import typiclust

REGISTRY: dict[str, Strategy] = {
    "stratified": Strategy(uniform, baseline=True, summary="no acquisition: the whole variant is labelled at once"),
    "random": Strategy(uniform, summary="any unlabelled image"),
    "uncertainty": Strategy(ranking(least_confidence), ("probs",), summary="lowest top probability; Lewis & Gale 1994"),
    "margin": Strategy(ranking(smallest_margin), ("probs",), summary="closest two classes; Scheffer et al. 2001"),
    "entropy": Strategy(ranking(predictive_entropy), ("probs",), summary="highest entropy; Settles 2009"),
    "typiclust": Strategy(
        typiclust, ("probs", "features"), summary="uncertain and far from its cluster's centre; Petersen 2024"
    ),
}


def get_strategy(name: str) -> Strategy:
    return REGISTRY[name]


__all__ = ["REGISTRY", "Picks", "Pool", "Select", "Strategy", "get_strategy"]
