"""How many labels when, and the time left."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from al.errors import UserError

if TYPE_CHECKING:
    from al.config import RunConfig
    from al.records import EpochRecord
    from al.run_state import RunState


@dataclass(frozen=True)
class Budget:
    """Labels of one run; each round after the first acquires `growth` times as many as the one before it."""

    total: int
    initial: int
    """Before the first round."""
    batch: int
    """In the first round."""
    checks: int = 0
    """Machine labels of the initial pool that people check; each costs one acquisition."""
    growth: float = 1.0

    @cached_property
    def milestones(self) -> tuple[int, ...]:
        """Labels after each query; the last query spends what is left of the budget."""
        labels, batch, stops = self.initial, float(self.batch), []
        while labels < self.total:
            labels = min(labels + round(batch), self.total)
            stops.append(labels)
            batch *= self.growth
        return tuple(stops)

    @property
    def rounds(self) -> int:
        return len(self.milestones)

    def left(self, labels: int) -> int:
        """Labels still to be acquired with `labels` spent."""
        return self.total - labels

    def rounds_left(self, labels: int) -> int:
        """Queries still to come with `labels` spent."""
        return sum(stop > labels for stop in self.milestones)

    def next_batch(self, labels: int) -> int:
        """Labels that the next query acquires, with `labels` spent; 0 once the budget is spent."""
        return next((stop - labels for stop in self.milestones if stop > labels), 0)


def budget_of(config: "RunConfig", variant: int, pool: int, classes: int) -> Budget:
    """The budget of a configuration on a variant of so many images and a pool of `pool` images.

    Raises:
        UserError: the budget is larger than the pool or leaves nothing to acquire, the initial pool cannot
            hold two images of each class, or the rounds need more epochs than there are.
    """
    labels = config.budget or variant
    if config.method.baseline:
        budget = Budget(variant, variant, variant)
    else:
        initial = max(round(config.initial_fraction * labels), config.initial_min)
        checks = round(config.init_cleaning * labels) if config.init == "clip" else 0
        batch = max(round(config.batch_fraction * labels), 1)
        budget = Budget(labels - checks, initial, batch, checks, config.batch_growth)
        _check(config, budget, pool)
    if not config.learner.holds_out:
        return budget
    if config.method.baseline:
        first, more = f"variant={config.variant}", f"use a variant of {2 * classes} images or more"
    else:
        first, more = f"initial_min={config.initial_min}", f"use initial_min={2 * classes} or more"
    if budget.initial < 2 * classes:
        raise UserError(
            f"{first}: an initial pool of {budget.initial} images is too small for {classes} classes, which need one "
            f"image each to train on and one to validate; {more}"
        )
    if round(config.val_fraction * budget.initial) < 1:
        raise UserError(
            f"val_fraction={config.val_fraction:g}: holds none of the first {budget.initial} labels back for "
            f"validation; raise val_fraction, or {more}"
        )
    return budget


def _check(config: "RunConfig", budget: Budget, pool: int) -> None:
    if budget.total > pool:
        raise UserError(
            f"budget={budget.total}: larger than the pool of {pool} images (pool_scope={config.pool_scope}); lower it"
        )
    largest = max(np.diff((budget.initial, *budget.milestones)), default=0)
    if config.pool_sample is not None and config.pool_sample < largest:
        raise UserError(
            f"pool_sample={config.pool_sample}: a round acquires up to {largest} images (batch_fraction="
            f"{config.batch_fraction:g}, batch_growth={config.batch_growth:g}); raise pool_sample to that"
        )
    if budget.checks > budget.initial:
        raise UserError(
            f"init_cleaning={config.init_cleaning:g}: {budget.checks} checks, but there are {budget.initial} machine "
            "labels; lower it"
        )
    if budget.initial >= budget.total:
        raise UserError(
            f"budget={budget.total}: the initial pool takes {budget.initial} (initial_fraction="
            f"{config.initial_fraction:g}, initial_min={config.initial_min}) and leaves nothing to acquire; "
            "lower initial_min or raise budget"
        )
    if budget.rounds < config.method.rounds:
        raise UserError(
            f"switch_after={config.switch_after}: the budget is spent after {budget.rounds} rounds, so the second of "
            f"strategy={config.strategy} would never choose; lower switch_after or batch_fraction"
        )
    if config.schedule == "epoch" and not config.learner.converges_at_once and budget.rounds >= config.max_epochs:
        raise UserError(
            f"max_epochs={config.max_epochs}: too few for {budget.rounds} acquisitions of one epoch each; "
            "raise max_epochs or batch_fraction"
        )


def seconds_left(budget: Budget, config: "RunConfig", state: "RunState", record: "EpochRecord") -> float:
    """Estimate the seconds left: each query as long as the last, and each fit twice `patience` epochs."""
    if state.finished:
        return 0.0
    training = record.seconds["train"] + record.seconds["evaluate"]
    acquiring = max(record.seconds["round"] - training, 0.0)
    left = budget.rounds_left(state.labelled.count)
    if config.learner.converges_at_once:
        return left * record.seconds["round"]
    if config.schedule == "epoch":
        fit = min(2 * config.patience, config.max_epochs - state.epoch - left) - (0 if left else state.fit_epoch)
        return left * record.seconds["round"] + max(fit, 1) * training
    fit = min(2 * config.patience, config.max_epochs)
    return left * (acquiring + fit * training) + max(fit - state.fit_epoch, 1) * training
