"""What logging a run to W&B offline costs: a finished run is logged again, as it was, and the seconds are compared.

python benchmarks/logging_cost.py results/<cell>/split_seed_12
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from al.config import RunConfig
from al.state import COMPLETE, RunFolder
from al.tracking import open_tracker


def main(path: str) -> None:
    folder = RunFolder(Path(path))
    result, known = folder.read_json(COMPLETE), folder.read_json("config.json")
    os.environ["WANDB_MODE"] = "offline"
    with tempfile.TemporaryDirectory() as scratch:
        config = RunConfig.from_mapping(known["config"] | {"results_dir": scratch})
        start = time.perf_counter()
        tracker = open_tracker(config, known["data"]["fingerprint"], None, [], print)
        for row in folder.epochs.rows():
            sheet = folder.path / "plots" / "picks" / f"round_{row['round'] + 1:03d}.png"
            tracker.log_epoch(row, sheet if row["pick"] else None)
        tracker.log_end(result, known["data"]["classes"], sorted((folder.path / "plots").glob("*.png")))
        tracker.finish(0)
        seconds = time.perf_counter() - start
    whole = result["training_time_seconds"]
    print(f"logging {result['total_epochs']} epochs: {seconds:.1f} s, {100 * seconds / whole:.1f} % of {whole:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1])
