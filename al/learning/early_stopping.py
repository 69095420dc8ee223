"""Early stopping and the fall of the learning rate, by the loss on one validation set."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """How one fit gets on: plain numbers, saved with the run."""

    lr: float
    best_loss: float = math.inf
    stale: int = 0
    """Epochs since the validation loss last fell by min_delta."""
    lr_stale: int = 0
    """Epochs since then, or since the learning rate last fell."""

    def step(self, loss: float, *, min_delta: float, lr_factor: float, lr_patience: int) -> bool:
        """Take the validation loss of one epoch; True where it is lower than the best by more than `min_delta`.

        That one rule tells the best epoch, early stopping and the learning rate, which is torch's ReduceLROnPlateau
        with threshold=min_delta and threshold_mode="abs": it falls in the epoch after `lr_patience` stale ones.
        """
        if loss < self.best_loss - min_delta:
            self.best_loss, self.stale, self.lr_stale = loss, 0, 0
            return True
        self.stale += 1
        self.lr_stale += 1
        if self.lr_stale > lr_patience:
            self.lr, self.lr_stale = self.lr * lr_factor, 0
        return False
