"""One round: train on what is labelled, score what is not, choose, and write down what to ask people for.

With the same images, labels, parameters and seeds the picks are those of `train.py`: the pool is in the same order,
and what is drawn is addressed by the same names and the number of the round.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from al import seeds
from al.candidates import candidates
from al.config import RunConfig
from al.data import DataSet, Embeddings, ImageSet
from al.errors import UserError
from al.labels import LabelledSet, Rows
from al.learning.learner import Learner, new_learner
from al.storage.blocks import gather
from al.strategies import REGISTRY, Picks, Pool
from labelling.contents import Contents, load_contents, side_of
from labelling.estimates import STOP_SET, in_stop_order, paired_difference
from labelling.fitting import cross_fitted, fit, predict, trained_on
from labelling.options import configuration
from labelling.photos import Photos, find_photos
from labelling.project import Project, first_rounds, holding
from labelling.proposal_files import Predictions, write_proposal
from labelling.records import AuditReserve, Gain, LabelEvent, Pick, Proposal

RESERVE_SHARE, RESERVE_MOST = 0.2, 1000
"""Of the unlabelled images, kept apart for the audit when it begins: no strategy chooses from them."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What the user asks for."""

    k: int
    """Images that the strategy chooses."""
    audit: int = 0
    """Random images besides, to estimate accuracy by."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Parameters of a run; those of the last proposal hold until others are given."""
    image_url: str = "data"
    """Where Label Studio finds the images: `data` puts small copies into the tasks; anything else is a prefix."""


@dataclass
class Round:
    """The images, labels and model of one round."""

    config: RunConfig
    contents: Contents
    events: list[LabelEvent]
    classes: tuple[str, ...]
    reserve: AuditReserve | None
    number: int

    @property
    def photos(self) -> Photos:
        return self.contents.photos

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {photo.sha256: row for row, photo in enumerate(self.photos.photos)}

    @cached_property
    def answered(self) -> dict[int, LabelEvent]:
        """The answer that holds, by row."""
        held = holding(self.events)
        return {self.row_of[digest]: event for digest, event in held.items() if digest in self.row_of}

    @property
    def labels_found(self) -> int:
        """Labels, those of the audit included, whose images are there."""
        return sum(event.kind == "label" for event in self.answered.values())

    def _labels(self, *, audit: bool) -> NDArray[np.int64]:
        labels = np.full(len(self.photos.photos), -1)
        for row, event in self.answered.items():
            if event.kind == "label" and event.audit == audit:
                labels[row] = self.classes.index(event.label)
        return labels

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """[N] classes that the model may learn, -1 elsewhere."""
        return self._labels(audit=False)

    @cached_property
    def audit_labels(self) -> NDArray[np.int64]:
        """[N] classes of the audit's images, -1 elsewhere."""
        return self._labels(audit=True)

    @cached_property
    def reserved(self) -> Rows:
        """Rows of the audit's images, labelled or still to be asked for, in the order in which they are asked for."""
        digests = self.reserve.sha256 if self.reserve else ()
        rows = [self.row_of[digest] for digest in digests if digest in self.row_of]
        return np.array([row for row in rows if self.labels[row] < 0], np.int64)

    @cached_property
    def pool(self) -> Rows:
        """Rows that may be labelled and learnt from, ascending."""
        skipped = [row for row, event in self.answered.items() if event.kind == "skip"]
        return np.setdiff1d(
            np.arange(len(self.photos.photos)), np.concatenate([skipped, self.reserved]).astype(np.int64)
        )

    @cached_property
    def unlabelled(self) -> Rows:
        return self.pool[self.labels[self.pool] < 0]

    @property
    def can_train(self) -> bool:
        return len(np.unique(self.labels[self.labels >= 0])) >= 2

    def labelled_set(self) -> LabelledSet:
        """The labels as a run holds them: in the order of rounds, each with its share for validation.

        Raises:
            UserError: too few for a learner that holds some out.
        """
        labelled = LabelledSet.empty(len(self.labels))
        share = self.config.val_fraction if self.config.learner.holds_out else 0
        first = first_rounds(self.events)
        rows = np.flatnonzero(self.labels >= 0)
        rounds = np.array([first[self.photos.photos[row].sha256] for row in rows])
        for number in np.unique(rounds):
            batch, rng = rows[rounds == number], seeds.rng(self.config.split_seed, int(number), "validation")
            labelled.add(batch, self.labels[batch], val_fraction=share, pool=self.pool, rng=rng)
        if share and not len(labelled.val):
            raise UserError(
                f"{len(rows)} labels: too few for model={self.config.model} to hold {share:.0%} of them back for "
                "validation; label more, or use --model=frozen"
            )
        return labelled

    def data_set(self) -> DataSet:
        train = ImageSet(
            self.contents.pixels, self.labels.copy(), self.classes, tuple(p.path for p in self.photos.photos)
        )
        test = ImageSet(self.contents.pixels[:0], np.empty(0, np.int64), self.classes, (), "test")
        return DataSet("own", train, test, "")

    def vectors(self) -> Embeddings | None:
        found = self.contents.embeddings
        return None if found is None else Embeddings(found, found[:0])

    def stop_set(self) -> Rows:
        """Rows on which successive models are compared: always the same images, drawn by their content."""
        return np.sort([self.row_of[digest] for digest in in_stop_order(self.row_of)[:STOP_SET]])


def propose(project: Project, request: Request, say: Say = print) -> Proposal:
    """Make one proposal; the caller holds the project's lock.

    Raises:
        UserError: a parameter, model or image is not as it must be, or nothing is left to propose.
        FloatingPointError: training diverged.
    """
    options = dict(project.settings.options) | dict(request.options)
    config = configuration(str(project.data), options)
    photos = find_photos(project.data, project.cache)
    if not photos.photos:
        raise UserError(f"{project.data}: no images in it that can be read; see --help for the kinds")
    contents = load_contents(photos, config, project.cache)
    for line in _about(contents.photos, config):
        say(line)
    project.save(project.settings.model_copy(update={"options": options}))
    this = _round(project, config, contents)
    if gone := sum(event.kind == "label" for event in holding(this.events).values()) - this.labels_found:
        say(f"{gone:,} labels are of images that are not in the folder any more, or cannot be read: not learnt from")
    if unanswered := _unanswered(project, this):
        say(f"{unanswered:,} images of the last round have no answer, and may be asked for again")
    if request.audit:
        this = _with_reserve(project, this, request.audit)
    audit = _audit_rows(this, request.audit, say)
    if not len(this.unlabelled) and not len(audit):
        raise UserError(f"{project.data}: every image is labelled or skipped; there is nothing left to propose")
    proposal, predictions = _with_a_model(project, this, request, audit, say) if this.can_train else (
        _cold_start(this, request, audit, say), None
    )  # fmt: skip
    write_proposal(project, proposal, predictions, request.image_url)
    return proposal


def _unanswered(project: Project, this: Round) -> int:
    earlier, held = project.rounds(), holding(this.events)
    return sum(pick.sha256 not in held for pick in earlier[-1].picks) if earlier else 0


def _about(photos: Photos, config: RunConfig) -> Iterator[str]:
    """What is in the folder, in words."""
    side = side_of(photos, config.image_size)
    seen = f"cut to its centre square and brought to {side}x{side} pixels" if side else "whole"
    copies = f" and {photos.copies:,} more of the same contents" if photos.copies else ""
    yield f"{photos.folder}: {len(photos.photos):,} images{copies}; each is used upright and {seen}"
    for reason, count in photos.reasons().items():
        example = next(path for path, why in photos.set_aside.items() if why == reason)
        yield f"set aside: {count:,} {'file' if count == 1 else 'files'}, {example}: {reason}"


def _round(project: Project, config: RunConfig, contents: Contents) -> Round:
    events, earlier = project.answers(), project.rounds()
    classes = sorted({*project.settings.classes, *(event.label for event in holding(events).values() if event.label)})
    this = Round(config, contents, events, tuple(classes), project.audit(), 0)
    this.number = earlier[-1].round + 1 if earlier else int(this.can_train)
    return this


def _with_reserve(project: Project, this: Round, audit: int) -> Round:
    """Set the audit's images apart, the first time that there is an audit."""
    if this.reserve is not None:
        return this
    free = this.unlabelled
    size = min(round(RESERVE_SHARE * len(free)), RESERVE_MOST)
    if audit > size:
        raise UserError(
            f"audit={audit}: of {len(free):,} unlabelled images {size:,} are kept apart for it (a fifth, at most "
            f"{RESERVE_MOST:,}); use {size} or fewer"
        )
    digests = sorted(this.photos.photos[row].sha256 for row in free)
    drawn = seeds.rng(this.config.seed, this.number, f"audit/{this.config.split_seed}").permutation(digests)[:size]
    labels = int((this.labels >= 0).sum())
    reserve = AuditReserve(sha256=drawn.tolist(), round=this.number, labels=labels, images=len(free))
    project.save_audit(reserve)
    return Round(this.config, this.contents, this.events, this.classes, reserve, this.number)


def _audit_rows(this: Round, audit: int, say: Say) -> Rows:
    """The next images of the audit that have no answer."""
    open_ = np.array([row for row in this.reserved if row not in this.answered], np.int64)
    if audit > len(open_):
        say(f"audit: {len(open_)} of its images are left without an answer, not {audit}")
    return open_[:audit]


def _cold_start(this: Round, request: Request, audit: Rows, say: Say) -> Proposal:
    """The first images, by a strategy that needs no model; later ones too while fewer than two classes are labelled."""
    config, method = this.config, REGISTRY[this.config.init]
    k = min(request.k, len(this.unlabelled))
    say(f"fewer than two classes are labelled: init={config.init} chooses {k} of {len(this.unlabelled):,} images")
    rng = seeds.rng(config.split_seed, this.number, "initial")
    if k == 0 or config.init == "random":
        rows, scores = np.sort(rng.choice(this.unlabelled, k, replace=False)), np.full(k, np.nan, np.float32)
    else:
        rows = this.pool if method.needs_labelled else this.unlabelled
        features = this.contents.embeddings if len(rows) == len(this.labels) else this.contents.embeddings[rows]
        pool = Pool(this.labels[rows] >= 0, max(len(this.classes), 2), this.labels[rows], features=features)
        found = method.select(pool, k, rng, **config.options_of(method))
        rows, scores = rows[found.positions], found.scores
    return _proposal(this, [*_picks(this, rows, scores), *_audit_picks(this, audit)], config.init, trained=0)


def _with_a_model(
    project: Project, this: Round, request: Request, audit: Rows, say: Say
) -> tuple[Proposal, Predictions]:
    """A round as `train.py` has it: fit, score the pool once, select."""
    config, method = this.config, this.config.method.in_round(this.number)
    labelled = this.labelled_set()
    k = min(request.k, len(this.unlabelled))
    free = f"{len(this.unlabelled):,} images"
    say(f"round {this.number}: {labelled.count:,} labels, {config.strategy_title} chooses {k} of {free}")
    learner = new_learner(config, this.data_set(), this.vectors(), scratch=project.cache)
    cross, gain = _cross_validation(this, learner), _gain(this, learner)
    earlier = project.rounds()
    epochs = fit(config, learner, labelled, earlier[-1].epochs if earlier else 0)
    if cross is None and len(labelled.val):
        confusion = learner.evaluate_val(labelled).confusion
        cross = 100 * float(np.trace(confusion) / confusion.sum())

    rows = candidates(config, this.pool, labelled.mask, this.number)  # [n] as in a run
    arrays = learner.score(rows, tuple(dict.fromkeys((*method.needs, "probs"))), this.number)
    known = {"labelled": labelled.mask[rows], "labels": labelled.assigned_labels[rows]}
    pool = Pool(classes=len(this.classes), **known, **arrays)
    rng = seeds.rng(config.seed, this.number, f"select/{config.split_seed}")
    picks = method.select(pool, k, rng, **config.options_of(method))

    probs = arrays["probs"]
    others = np.setdiff1d(np.concatenate([this.reserved, this.stop_set()]), rows)
    predictions = Predictions.of(
        [this.photos.photos[row].sha256 for row in (*rows, *others)],
        [probs, *([predict(learner, others, this.number)] if len(others) else [])],
    )
    chosen = _described(this, learner, rows, probs, picks, labelled)
    proposal = _proposal(this, [*chosen, *_audit_picks(this, audit)], config.strategy_title, trained=labelled.count)
    found, why_not = (gain, None) if isinstance(gain, Gain) else (None, gain)
    update = {"epochs": epochs, "cross_validation": cross, "gain": found, "gain_unknown": why_not}
    return proposal.model_copy(update=update), predictions


def _proposal(this: Round, picks: list[Pick], strategy: str, *, trained: int) -> Proposal:
    return Proposal(
        round=this.number,
        strategy=strategy,
        config={**this.config.outcome_fields()},
        classes=list(this.classes),
        trained_on=trained,
        labels=int((this.labels >= 0).sum() + (this.audit_labels >= 0).sum()),
        images=len(this.photos.photos),
        copies=this.photos.copies,
        set_aside=this.photos.reasons(),
        picks=picks,
    )


def _picks(this: Round, rows: Rows, scores: NDArray[np.float32]) -> list[Pick]:
    found = []
    for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist()), 1):
        photo = this.photos.photos[row]
        shown = None if np.isnan(score) else score
        found.append(Pick(path=photo.path, sha256=photo.sha256, rank=rank, score=shown))
    return found


def _audit_picks(this: Round, rows: Rows) -> list[Pick]:
    """Without what the model makes of them: who saw that would no longer judge for themselves."""
    photos = (this.photos.photos[row] for row in rows)
    return [Pick(path=p.path, sha256=p.sha256, rank=rank, audit=True) for rank, p in enumerate(photos, 1)]


def _described(
    this: Round, learner: Learner, rows: Rows, probs: NDArray[np.float32], picks: Picks, labelled: LabelledSet
) -> list[Pick]:
    """The picks with what the model makes of each, and the labelled image most like it."""
    chosen, best = rows[picks.positions], probs[picks.positions]
    like = _nearest(this, learner, chosen, np.concatenate([labelled.train, labelled.val]))
    found = []
    for pick, row, near in zip(_picks(this, chosen, picks.scores), best, like):
        guess = int(row.argmax())
        known = {"predicted": this.classes[guess], "probability": float(row[guess])}
        known |= {"nearest": this.photos.photos[near].path, "nearest_label": this.classes[this.labels[near]]}
        found.append(pick.model_copy(update=known))
    return found


NEAREST_BLOCK = 256


def _nearest(this: Round, learner: Learner, rows: Rows, labelled: Rows) -> Rows:
    """[k] the labelled row of largest cosine for each of `rows`, in the embeddings or the model's own features."""
    both = np.unique(np.concatenate([rows, labelled]))
    features = this.contents.embeddings
    if features is None:
        features, where = learner.score(both, ("features",), this.number)["features"], np.searchsorted
        rows_in, labelled_in = where(both, rows), where(both, labelled)
    else:
        rows_in, labelled_in = rows, labelled
    known = gather(features, labelled_in, unit=True)  # [n, D]
    found = [
        (gather(features, rows_in[start : start + NEAREST_BLOCK], unit=True) @ known.T).argmax(1)
        for start in range(0, len(rows_in), NEAREST_BLOCK)
    ]
    return labelled[np.concatenate(found)] if found else labelled[:0]


def _cross_validation(this: Round, learner: Learner) -> float | None:
    """Percent of the labelled images that models trained on the others get right; where a fit is quick."""
    rows = np.flatnonzero(this.labels >= 0)
    if this.config.learner.holds_out or (this.audit_labels >= 0).any():
        return None
    right = cross_fitted(this.config, learner, rows, this.labels, seeds.rng(this.config.seed, this.number, "folds"))
    return 100 * float(right.mean())


def _gain(this: Round, learner: Learner) -> Gain | str:
    """Compare the first labels as they were chosen with as many random ones, those of the audit; or why that cannot be.

    The random arm's models are trained on four fifths of the audit's labels and judged on the fifth left out; the other
    arm's on as many of the labels that came first, and judged on all of the audit.
    """
    random = np.flatnonzero(this.audit_labels >= 0)
    if not len(random):
        return "there is no audit: propose --audit=50 mixes random images in"
    if this.config.learner.holds_out:
        return "it takes six fits, which is done for --model=frozen only"
    labels = 4 * len(random) // 5
    first = first_rounds(this.events)
    rows = np.flatnonzero(this.labels >= 0)
    digests = [this.photos.photos[row].sha256 for row in rows]
    asked = {event.sha256 for event in this.events if event.proposed}
    given = sum(digest not in asked for digest in digests)
    if len(rows) < labels:
        return f"the audit has more labels than were chosen ({len(rows)})"
    if labels <= given:
        return f"{given} labels were there before anything was chosen; the audit has {len(random)} labels so far"
    rng = seeds.rng(this.config.seed, this.number, "gain")
    shuffled = rng.permutation(len(rows))  # of a round that is only partly taken, which images is left to chance
    order = sorted(shuffled.tolist(), key=lambda i: (digests[i] in asked, first[digests[i]]))
    by_chance = cross_fitted(this.config, learner, random, this.audit_labels, rng)
    trained_on(this.config, learner, rows[order[:labels]], this.labels)
    chosen = predict(learner, random, 0).argmax(1) == this.audit_labels[random]
    found = paired_difference(chosen, by_chance)
    values = {"chosen": 100 * float(chosen.mean()), "random": 100 * float(by_chance.mean())}
    return Gain(labels=labels, images=len(random), low=found.low, high=found.high, **values)
