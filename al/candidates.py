"""Which images a query looks at."""

import numpy as np
from numpy.typing import NDArray

from al import seeds
from al.config import RunConfig
from al.labels import Rows


def candidates(config: RunConfig, pool: Rows, labelled: NDArray[np.bool_], number: int) -> Rows:
    """Rows [n], ascending, that query `number` scores and chooses from.

    What is unlabelled, or under `pool_sample` a random part of it; with it what is labelled, where the strategy
    compares with that. Of frozen embeddings all, where all may be labelled: a part of them would be a copy.

    Args:
        pool: i64[S] rows that may be labelled.
        labelled: bool[N] what is labelled already.
    """
    known, strategy = labelled[pool], config.method.in_round(number)
    rows = pool[~known]
    if config.pool_sample is not None and config.pool_sample < len(rows):
        rng = seeds.rng(config.seed, number, f"pool sample/{config.split_seed}")
        rows = np.sort(rng.choice(rows, config.pool_sample, replace=False))
    elif config.clusters_embeddings(strategy) and len(pool) == len(labelled):
        return pool
    return np.sort(np.append(rows, pool[known])) if strategy.needs_labelled else rows
