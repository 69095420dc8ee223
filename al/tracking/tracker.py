"""What the loop reports to, and what it reports to where W&B is switched off."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from al.records import EpochRecord, RunResult


class Tracker(Protocol):
    """What the loop reports to W&B."""

    run_id: str
    url: str | None

    def log_epoch(self, record: EpochRecord, sheet: Path | None = None) -> None: ...

    def log_end(self, result: RunResult, classes: Sequence[str], plots: list[Path]) -> None: ...

    def preempting(self) -> None: ...

    def finish(self, exit_code: int) -> None: ...


class NoTracker:
    """W&B switched off: WANDB_MODE=disabled."""

    run_id, url = "", None

    def log_epoch(self, record: EpochRecord, sheet: Path | None = None) -> None:
        pass

    def log_end(self, result: RunResult, classes: Sequence[str], plots: list[Path]) -> None:
        pass

    def preempting(self) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass
