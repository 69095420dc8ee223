"""How a run spends its budget, in labels, and how long it will take."""

from dataclasses import dataclass
from typing import Any

from al.errors import UserError
from al.state import Row, RunState


@dataclass(frozen=True)
class Plan:
    """Labels in all, before the first round, and in each round."""

    budget: int
    initial: int
    batch: int
    checks: int = 0
    """Free labels of the initial pool that people check; paid for with as many acquisitions fewer."""

    @property
    def acquisitions(self) -> int:
        return self.left(self.initial)

    def left(self, labels: int) -> int:
        """Acquisitions still to come with `labels` spent."""
        return -(-(self.budget - labels) // self.batch)


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
        plan = Plan(budget - checks, initial, max(round(config.batch_fraction * budget), 1), checks)
        _check_budget(config, plan, scope)
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
    if config.schedule == "epoch" and plan.acquisitions >= config.max_epochs:
        raise UserError(
            f"max_epochs={config.max_epochs}: too few for {plan.acquisitions} acquisitions of one epoch each; "
            "raise max_epochs or batch_fraction"
        )


def seconds_left(plan: Plan, config: Any, state: RunState, row: Row) -> float:
    """An estimate from the last epoch: each acquisition to come takes as long, and a fit twice the patience."""
    if state.finished:
        return 0.0
    training = row["seconds"]["train"] + row["seconds"]["evaluate"]
    acquiring = max(row["seconds"]["round"] - training, 0.0)
    left = plan.left(state.labelled.count)
    if config.schedule == "epoch":
        fit = min(2 * config.patience, config.max_epochs - state.epoch - left) - (0 if left else state.fit_epoch)
        return left * row["seconds"]["round"] + max(fit, 1) * training
    fit = min(2 * config.patience, config.max_epochs)
    return left * (acquiring + fit * training) + max(fit - state.fit_epoch, 1) * training
