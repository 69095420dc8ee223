"""Everything that changes while a run goes on, but for the model itself."""

from dataclasses import dataclass, field

from al.labels import LabelledSet
from al.learning.early_stopping import EarlyStopping
from al.records import BestEpoch


@dataclass
class RunState:
    """What a checkpoint holds beside the learner."""

    labelled: LabelledSet
    early_stopping: EarlyStopping
    """Of the present fit, and its learning rate."""
    epoch: int = 0
    """Epochs done."""
    round: int = 0
    """Queries done."""
    fit_epoch: int = 0
    """Epochs done since the labelled set last changed."""
    best: BestEpoch | None = None
    """The best epoch of the present fit, where its weights are kept."""
    curve_point: dict[str, float] | None = None
    """Test metrics of the latest fit's best epoch: its point on the learning curve."""
    finished: bool = False
    seconds: float = 0.0
    """Seconds of all epochs so far, over all attempts."""
    not_repeatable: list[str] = field(default_factory=list)
    """Operations without a deterministic kernel, over all attempts."""
