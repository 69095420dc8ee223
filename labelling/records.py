"""What the labelling of one folder writes down, and what crosses between its modules."""

import time
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from al.records import Record


class LabelEvent(Record):
    """A line of `labels.jsonl`: one answer about one image. Lines are only ever added."""

    kind: Literal["label", "skip", "disputed"]
    """`disputed`: an answer that contradicts the one that holds; kept, and not used."""
    sha256: str
    """Of the image file: what the answer is about, wherever the file lies."""
    path: str
    """Where the file lay in the folder of images."""
    label: str | None = None
    reason: str | None = None
    """Of a skip: the image is never asked for again."""
    origin: str
    """The file or tool that the answer came by."""
    round: int = 0
    """Proposals that had been made."""
    proposed: bool = False
    """Whether a proposal had asked for it."""
    audit: bool = False
    """Whether it was asked for as a random image of the audit."""
    time: float = Field(default_factory=time.time)
    """Seconds since 1970."""

    @property
    def answer(self) -> tuple[str, str | None]:
        """What is compared with another answer about the same image."""
        return ("label", self.label) if self.reason is None else ("skip", None)


class Settings(Record):
    """`project.json`: what holds for all rounds."""

    data: str
    """Folder of the images."""
    classes: list[str] = Field(default_factory=list)
    options: dict[str, str] = Field(default_factory=dict)
    """Parameters of runs as the last proposal had them from the user; the next one goes on with them."""


class Pick(Record):
    """An image that a round asks for."""

    path: str
    sha256: str
    rank: int
    """From 1, the most wanted first."""
    score: float | None = None
    """The strategy's; None where it has none, and for images of the audit."""
    predicted: str | None = None
    probability: float | None = None
    nearest: str | None = None
    """Path of the labelled image that is most like it."""
    nearest_label: str | None = None
    audit: bool = False
    """Drawn at random, to estimate accuracy by; no one is shown what the model makes of it."""


class Gain(Record):
    """What choosing has gained over labelling at random, on the images of the audit."""

    labels: int
    """That both models were trained on."""
    images: int
    chosen: float
    """Accuracy in percent of the model of the first labels as they were chosen."""
    random: float
    """Accuracy in percent of models of as many random labels; cross-fitted."""
    low: float
    high: float
    """95 % interval of the difference, in percentage points, over images."""


class Proposal(Record):
    """`proposal.json` of one round."""

    round: int
    time: float = Field(default_factory=time.time)
    strategy: str
    config: dict[str, object]
    """Parameters that are not at their default."""
    classes: list[str]
    trained_on: int
    """Labels that the model of this round has learnt from; 0 for a cold start."""
    labels: int
    """Labels that there were, those of the audit included."""
    images: int
    """Readable images of distinct content."""
    copies: int = 0
    """Further files of the same contents."""
    set_aside: dict[str, int] = Field(default_factory=dict)
    """Files that cannot be used, by reason."""
    epochs: int = 0
    """Of all rounds so far; numbers of epochs address what training draws."""
    cross_validation: float | None = None
    """Percent; of the labelled images, which were not drawn at random."""
    gain: Gain | None = None
    gain_unknown: str | None = None
    """Why `gain` is not there."""
    picks: list[Pick]


class AuditReserve(Record):
    """`audit.json`: images drawn at random before anything else was chosen; a model is never trained on them."""

    sha256: list[str]
    """In the order in which they are asked for."""
    round: int
    """Proposals that had been made when they were drawn."""
    labels: int
    """Labels that there were by then."""
    images: int
    """Unlabelled images that they were drawn from."""


@dataclass(frozen=True)
class Answer:
    """What a file says of one image, before it is known whether there is such an image."""

    where: str
    """The image as the file names it, for messages."""
    names: tuple[str, ...] = ()
    """Paths that it may have in the folder, the likeliest first."""
    sha256: str | None = None
    """Of the image that was asked about, where the file says it."""
    label: str | None = None
    reason: str | None = None
    """Of a skip."""
    content: str | None = None
    """SHA-256 of the file at hand, where the answer is where it lies; perhaps of a copy that was saved anew."""
    annotator: str | None = None


@dataclass
class Accepted:
    """What has become of the answers of one file."""

    origin: str
    labelled: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """Images never to be asked for again, by reason."""
    known: int = 0
    """Answers that were there already."""
    replaced: int = 0
    unanswered: int = 0
    by_name: list[str] = field(default_factory=list)
    """Images of which the file tells nothing but a name."""
    conflicts: list[str] = field(default_factory=list)
    unknown_images: list[str] = field(default_factory=list)
    unknown_classes: list[str] = field(default_factory=list)
    new_classes: list[str] = field(default_factory=list)
