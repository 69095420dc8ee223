"""How a run spends its budget, in labels, which images a round looks at, and how long it will take."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al import seeds
from al.errors import UserError
from al.run_state import RunState
from al.storage.files import Row


@dataclass(frozen=True)
class Plan:
    """Labels in all, before the first round, and in the first round; each later round takes `growth` times as many."""

    budget: int
    initial: int
    batch: int
    checks: int = 0
    """Free labels of the initial pool that people check; paid for with as many acquisitions fewer."""
    growth: float = 1.0

    @cached_property
    def milestones(self) -> tuple[int, ...]:
        """Labels after each acquisition; the last one spends what is left."""
        labels, batch, stops = self.initial, float(self.batch), []
        while labels < self.budget:
            labels = min(labels + round(batch), self.budget)
            stops.append(labels)
            batch *= self.growth
        return tuple(stops)

    @property
    def acquisitions(self) -> int:
        return len(self.milestones)

    def left(self, labels: int) -> int:
        """Acquisitions still to come with `labels` spent."""
        return sum(stop > labels for stop in self.milestones)

    def next_batch(self, labels: int) -> int:
        """How many the next acquisition takes, with `labels` spent; 0 once the budget is."""
        return next((stop - labels for stop in self.milestones if stop > labels), 0)


def plan_of(config: Any, variant: int, scope: int, classes: int) -> Plan:
    """The plan of a configuration on a variant of so many images and a pool of `scope` images.

    Raises:
        UserError: the budget is larger than the pool or leaves nothing to acquire, the initial pool cannot
            hold two images of each class, or the rounds need more epochs than there are.
    """
    budget = config.budget or variant
    if config.method.baseline:
        plan = Plan(variant, variant, variant)
    else:
        initial = max(round(config.initial_fraction * budget), config.initial_min)
        checks = round(config.init_cleaning * budget) if config.init == "clip" else 0
        batch = max(round(config.batch_fraction * budget), 1)
        plan = Plan(budget - checks, initial, batch, checks, config.batch_growth)
        _check_budget(config, plan, scope)
    if config.frozen:
        return plan
    if plan.initial < 2 * classes:
        raise UserError(
            f"initial_min={config.initial_min}: an initial pool of {plan.initial} images is too small for {classes} "
            f"classes, which need one image each to train on and one to validate; use {2 * classes} or more"
        )
    if round(config.val_fraction * plan.initial) < 1:
        raise UserError(
            f"val_fraction={config.val_fraction:g}: holds none of the first {plan.initial} labels back for validation; "
            "raise val_fraction or initial_min"
        )
    return plan


def _check_budget(config: Any, plan: Plan, scope: int) -> None:
    if plan.budget > scope:
        raise UserError(
            f"budget={plan.budget}: larger than the pool of {scope} images (pool_scope={config.pool_scope}); lower it"
        )
    largest = max(np.diff((plan.initial, *plan.milestones)), default=0)
    if config.pool_sample is not None and config.pool_sample < largest:
        raise UserError(
            f"pool_sample={config.pool_sample}: a round acquires up to {largest} images (batch_fraction="
            f"{config.batch_fraction:g}, batch_growth={config.batch_growth:g}); raise pool_sample to that"
        )
    if plan.checks > plan.initial:
        raise UserError(
            f"init_cleaning={config.init_cleaning:g}: {plan.checks} checks, but there are {plan.initial} free labels; "
            "lower it"
        )
    if plan.initial >= plan.budget:
        raise UserError(
            f"budget={plan.budget}: the initial pool takes {plan.initial} (initial_fraction="
            f"{config.initial_fraction:g}, initial_min={config.initial_min}) and leaves nothing to acquire; "
            "lower initial_min or raise budget"
        )
    if config.schedule == "epoch" and not config.frozen and plan.acquisitions >= config.max_epochs:
        raise UserError(
            f"max_epochs={config.max_epochs}: too few for {plan.acquisitions} acquisitions of one epoch each; "
            "raise max_epochs or batch_fraction"
        )


def candidates(config: Any, scope: NDArray[np.int64], labelled: NDArray[np.bool_], number: int) -> NDArray[np.int64]:
    """Rows [n], ascending, that acquisition `number` scores and chooses from.

    Args:
        scope: i64[S] rows that may be labelled.
        labelled: bool[N] what is labelled already.

    What is unlabelled, or under `pool_sample` a random part of it; with it what is labelled, where the strategy
    compares with that. Of frozen embeddings all, where all may be labelled: a part of them would be a copy.
    """
    known = labelled[scope]
    rows = scope[~known]
    if config.pool_sample is not None and config.pool_sample < len(rows):
        rng = seeds.rng(config.seed, number, f"pool sample/{config.split_seed}")
        rows = np.sort(rng.choice(rows, config.pool_sample, replace=False))
    elif config.clusters_embeddings and len(scope) == len(labelled):
        return scope
    return np.sort(np.append(rows, scope[known])) if config.method.needs_labelled else rows


def seconds_left(plan: Plan, config: Any, state: RunState, row: Row) -> float:
    """An estimate from the last epoch: each acquisition to come takes as long, and a fit twice the patience."""
    if state.finished:
        return 0.0
    training = row["seconds"]["train"] + row["seconds"]["evaluate"]
    acquiring = max(row["seconds"]["round"] - training, 0.0)
    left = plan.left(state.labelled.count)
    if config.frozen:
        return left * row["seconds"]["round"]
    if config.schedule == "epoch":
        fit = min(2 * config.patience, config.max_epochs - state.epoch - left) - (0 if left else state.fit_epoch)
        return left * row["seconds"]["round"] + max(fit, 1) * training
    fit = min(2 * config.patience, config.max_epochs)
    return left * (acquiring + fit * training) + max(fit - state.fit_epoch, 1) * training
