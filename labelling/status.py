"""How the labelling of a folder stands: labels, accuracy, the curve and where it goes, whether to stop."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from al import seeds
from labelling.estimates import (
    FEWEST_POINTS,
    STOP_KAPPA,
    STOP_ROUNDS,
    STOP_SET,
    Interval,
    Projection,
    in_stop_order,
    kappa,
    project,
    proportion,
)
from labelling.project import Project, holding
from labelling.proposal_files import Predictions
from labelling.records import AuditReserve, Gain, LabelEvent, Proposal

FEW = 30
"""Audit labels below which an interval is too wide to act on."""


@dataclass(frozen=True)
class CurvePoint:
    """The model of one round, judged by the audit."""

    round: int
    labels: int
    accuracy: Interval


@dataclass(frozen=True)
class Agreement:
    """How alike the models of two successive rounds are on the fixed set of images."""

    round: int
    """Of the later one."""
    labels: int
    """That the later one was trained on."""
    images: int
    kappa: float
    changed: Interval
    """Percent of the images that they predict differently: accuracy cannot have moved by more points than that."""


@dataclass(frozen=True)
class Status:
    """All that is known."""

    folder: str
    images: int
    """Readable, of distinct content, at the last proposal."""
    copies: int
    set_aside: dict[str, int]
    rounds: int
    labels: int
    skipped: dict[str, int]
    disputed: int
    by_class: dict[str, int]
    by_origin: dict[str, int]
    audit_labels: int
    audit_open: int
    """Audit images that were asked for and have no answer."""
    since: int
    """Labels that no model has seen yet."""
    strategy: str | None
    trained_on: int
    curve: tuple[CurvePoint, ...]
    cross_validation: float | None
    agreement: tuple[Agreement, ...]
    projection: Projection | None
    target: float | None
    gain: Gain | None
    gain_unknown: str | None
    late_audit: str | None
    """Why the audit speaks for a part of the images only."""

    @property
    def accuracy(self) -> Interval | None:
        """Of the latest model, by the audit."""
        return self.curve[-1].accuracy if self.curve else None

    @property
    def mean_kappa(self) -> float | None:
        """Over the last rounds that the rule looks at; None for fewer."""
        last = self.agreement[-STOP_ROUNDS:]
        return float(np.mean([step.kappa for step in last])) if len(last) == STOP_ROUNDS else None

    @property
    def stop(self) -> bool:
        return self.mean_kappa is not None and self.mean_kappa >= STOP_KAPPA


def status_of(state: Project, target: float | None = None) -> Status:
    """Read everything and work out what can be said; trains nothing and looks at no image.

    Args:
        target: accuracy in percent whose labels are to be guessed.
    """
    events, rounds, reserve = state.answers(), state.rounds(), state.audit()
    held = holding(events)
    labels = {digest: event for digest, event in held.items() if event.kind == "label"}
    models = [(proposal, found) for proposal in rounds if (found := Predictions.read(state.folder_of(proposal.round)))]
    curve, hits = _curve(models, {digest: event.label or "" for digest, event in labels.items() if event.audit})
    last, model = (rounds[-1] if rounds else None), (models[-1][0] if models else None)
    asked = {pick.sha256 for proposal in rounds for pick in proposal.picks if pick.audit}
    return Status(
        folder=str(state.data),
        images=last.images if last else 0,
        copies=last.copies if last else 0,
        set_aside=last.set_aside if last else {},
        rounds=len(rounds),
        labels=len(labels),
        skipped=_counted(event.reason for event in held.values() if event.kind == "skip"),
        disputed=sum(event.kind == "disputed" for event in events),
        by_class=_counted(event.label for event in labels.values()),
        by_origin=_counted(_origin(event) for event in labels.values()),
        audit_labels=hits.shape[1],
        audit_open=len(asked - held.keys()),
        since=sum(not event.audit and event.round >= (model.round if model else 0) for event in labels.values()),
        strategy=model.strategy if model else None,
        trained_on=model.trained_on if model else 0,
        curve=curve,
        cross_validation=model.cross_validation if model else None,
        agreement=tuple(_agreement(models)),
        projection=project([point.labels for point in curve], hits, seeds.rng(0, 0, "bootstrap")),
        target=target,
        gain=model.gain if model else None,
        gain_unknown=model.gain_unknown if model else "no model has been trained yet",
        late_audit=_late(reserve),
    )


def _counted(values: "object") -> dict[str, int]:
    return dict(Counter(values).most_common())


def _origin(event: LabelEvent) -> str:
    asked = "random, for the audit" if event.audit else "proposed" if event.proposed else "not asked for"
    return f"{event.origin} ({asked})"


def _late(reserve: AuditReserve | None) -> str | None:
    if reserve is None or reserve.labels == 0:
        return None
    return (
        f"the audit was drawn when {reserve.labels:,} images were labelled already: it speaks for the "
        f"{reserve.images:,} others"
    )


def _curve(
    models: Sequence[tuple[Proposal, Predictions]], truth: dict[str, str]
) -> tuple[tuple[CurvePoint, ...], NDArray[np.bool_]]:
    """The accuracy of each round's model on the audit's images that all of them have judged, and hits [R, m].

    No model has learnt from an image of the audit, whenever its label came.
    """
    judged = [found.by_image() for _, found in models]
    images = sorted(digest for digest in truth if judged and all(digest in found for found in judged))
    rows = [
        [proposal.classes[found[digest]] == truth[digest] for digest in images]
        for (proposal, _), found in zip(models, judged)
    ]
    hits = np.array(rows, dtype=bool).reshape(len(models), len(images))
    if not images:
        return (), hits
    points = (
        CurvePoint(proposal.round, proposal.trained_on, proportion(int(row.sum()), len(images)))
        for (proposal, _), row in zip(models, hits)
    )
    return tuple(points), hits


def _agreement(models: Sequence[tuple[Proposal, Predictions]]) -> list[Agreement]:
    """Kappa of each two successive models on the stop set: the same images throughout."""
    if len(models) < 2:
        return []
    judged = [(proposal, found.by_image()) for proposal, found in models]
    common = in_stop_order(set.intersection(*({*found} for _, found in judged)))[:STOP_SET]
    names = sorted({name for proposal, _ in judged for name in proposal.classes})
    steps = []
    for (before, first), (after, second) in pairwise(judged):
        a = np.array([names.index(before.classes[first[digest]]) for digest in common], np.int64)
        b = np.array([names.index(after.classes[second[digest]]) for digest in common], np.int64)
        changed = proportion(int((a != b).sum()), len(common))
        steps.append(Agreement(after.round, after.trained_on, len(common), kappa(a, b, len(names)), changed))
    return steps


def sentences(status: Status) -> list[str]:
    """What the numbers mean, a sentence a line; the same on the terminal and on the page."""
    return [*_about_accuracy(status), *_about_the_future(status), *_about_stopping(status), *_about_choosing(status)]


def _about_accuracy(status: Status) -> list[str]:
    said = []
    if status.accuracy is not None:
        images = f"{status.audit_labels:,} random images that it has not learnt from"
        said.append(f"Accuracy of the model of {status.trained_on:,} labels: {status.accuracy}, from {images}.")
        if status.audit_labels < FEW:
            said.append(f"{status.audit_labels} audit labels are few: propose --audit=50 adds more.")
    elif status.cross_validation is not None:
        said.append(
            f"Accuracy by cross-validation on the labelled images: {status.cross_validation:.1f} %. This is biased, as "
            "they were not drawn at random: images that a strategy chooses are harder than most. For an unbiased "
            "estimate, propose --audit=50 adds random ones."
        )
    if status.audit_open:
        said.append(
            f"{status.audit_open} audit images have no answer yet: leaving out the hard ones would make the estimate "
            "too high."
        )
    if status.accuracy is not None and status.late_audit:
        said.append(status.late_audit[0].upper() + status.late_audit[1:] + ".")
    if status.since and status.trained_on:
        said.append(f"{status.since:,} labels have come since; the next proposal learns from them too.")
    return said


def _about_the_future(status: Status) -> list[str]:
    if status.projection is None:
        takes = _takes_to_project(status)
        return [f"Where the learning curve goes cannot be said yet: that takes {takes}."] if status.trained_on else []
    twice = 2 * status.trained_on
    said = [
        f"If the curve goes on as a power law, which is a guess, {twice:,} labels give "
        f"{status.projection.accuracy(twice)}."
    ]
    if status.target is not None:
        found = status.projection.labels_for(status.target)
        low, value, high = (_labels(count) for count in (found.low, found.value, found.high))
        said.append(f"{status.target:g} % would take {value} labels by the same guess (95 % interval {low} to {high}).")
    return said


def _takes_to_project(status: Status) -> str:
    if status.accuracy is None:
        return "an audit"
    if len({point.labels for point in status.curve}) < FEWEST_POINTS:
        return f"{FEWEST_POINTS} rounds of different label counts"
    return f"audit images that some model gets {'wrong' if status.accuracy.value else 'right'}"


def _labels(count: float) -> str:
    """Two digits are more than is known; beyond a million it is never."""
    if not np.isfinite(count) or count > 1e6:
        return "over a million"
    digits = max(len(str(int(count))) - 2, 0)
    return f"{round(count, -digits):,.0f}"


def _about_stopping(status: Status) -> list[str]:
    if not status.agreement:
        return ["When to stop cannot be said yet: that takes two models to compare."] if status.trained_on else []
    last = status.agreement[-1]
    said = []
    if status.stop:
        said.append(
            f"Stop: kappa of successive models, averaged over {STOP_ROUNDS} rounds, is {status.mean_kappa:.3f}, which "
            f"is {STOP_KAPPA} or more (Bloodgood & Vijay-Shanker 2009)."
        )
    else:
        mean = f", {status.mean_kappa:.3f} over {STOP_ROUNDS} rounds" if status.mean_kappa is not None else ""
        said.append(
            f"Go on: successive models still differ (kappa {last.kappa:.3f}{mean}; the rule stops at {STOP_KAPPA} over "
            f"{STOP_ROUNDS} rounds)."
        )
    bound = (
        f"The last labels changed {last.changed.value:.1f} % of {last.images:,} predictions, so accuracy moved by "
        f"{last.changed.high:.1f} points at the most, with 97.5 % confidence"
    )
    if status.accuracy is not None:
        bound += f"; labelling everything could gain {100 - status.accuracy.low:.1f} points at the most"
    return [*said, bound + "."]


def _about_choosing(status: Status) -> list[str]:
    if status.gain is None:
        return [f"What choosing gained over random cannot be said: {status.gain_unknown}."] if status.trained_on else []
    gain = status.gain
    difference = gain.chosen - gain.random
    verdict = "" if gain.low > 0 or gain.high < 0 else " This may be chance."
    return [
        f"Choosing against random: {difference:+.1f} points (95 % interval {gain.low:+.1f} to {gain.high:+.1f}), "
        f"{gain.chosen:.1f} % against {gain.random:.1f} % with {gain.labels:,} labels each. This is seen on "
        f"{gain.images:,} images with one draw of labels each.{verdict}"
    ]
