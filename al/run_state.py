"""What changes while a run goes on."""

from dataclasses import dataclass
from typing import Any

from al.labels import Labelled
from al.learning.early_stopping import Plateau

Row = dict[str, Any]


@dataclass
class RunState:
    """Everything that changes while a run goes on, but for the model itself."""

    labelled: Labelled
    epoch: int = 0
    """Epochs done."""
    round: int = 0
    """Acquisitions done."""
    fit_epoch: int = 0
    """Epochs done since the labelled set last changed."""
    plateau: Plateau | None = None
    """Early stopping and learning rate of the present fit."""
    best: Row | None = None
    """Metrics of the best epoch of the present fit."""
    stands: Row | None = None
    """Test metrics of the best epoch of the latest fit: its point on the learning curve."""
    finished: bool = False
    seconds: float = 0.0
    """Seconds of all epochs and rounds so far, over all attempts."""
