"""A million images embedded by four workers that are killed again and again: complete, each shard once, order kept.

python -m benchmarks.embedding_shards            # a million, some minutes of one core, 2 GB on disk meanwhile

The images are synthetic, 8 x 8 pixels, made from their number, as BMP files in WebDataset's tar files; the model is a
tiny ResNet with random weights. So the right vector of every row is known, and is computed again here without files,
shards, threads or other processes. What is real is all from the command line to the memory map; what is not is the
time, which with photographs and a useful model goes to decoding and to the model.
"""

import argparse
import hashlib
import io
import os
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from al.runtime import resolve_runtime
from benchmarks import measuring
from benchmarks.measuring import Measurement, Spread
from data_prep.image_encoder import load_vision
from data_prep.sharded.store import Store

SIDE, BITS = 8, 24
DIMENSIONS = 16
BATCH = 256
ROOT = Path(__file__).resolve().parents[1]


def images(start: int, stop: int) -> NDArray[np.uint8]:
    """u8[n, 8, 8, 3]: pixels drawn for the number of an image, and its bits as the first 24 of them, black or white."""
    numbers = np.arange(start, stop, dtype=np.uint64)
    values = numbers[:, None] * np.uint64(SIDE * SIDE * 3) + np.arange(SIDE * SIDE * 3, dtype=np.uint64)
    values = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # SplitMix64 (Steele et al. 2014)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    pixels = (values >> np.uint64(56)).astype(np.uint8)  # [n, 192]
    pixels[:, :BITS] = 255 * ((numbers[:, None] >> np.arange(BITS, dtype=np.uint64)) & np.uint64(1)).astype(np.uint8)
    return pixels.reshape(-1, SIDE, SIDE, 3)


def bmp_files(pixels: NDArray[np.uint8]) -> list[bytes]:
    """The BMP file of each image: one header, then rows from the bottom up, blue before red."""
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "bmp")
    header = file.getvalue()[: -pixels[0].size]
    return [header + content.tobytes() for content in np.ascontiguousarray(pixels[:, ::-1, :, ::-1])]


def write_tars(folder: Path, count: int, per_tar: int) -> str:
    """The pattern of tar files of so many images each."""
    tars = -(-count // per_tar)
    for number in range(tars):
        start = number * per_tar
        with tarfile.open(folder / f"s-{number:04}.tar", "w") as tar:
            for row, content in enumerate(bmp_files(images(start, min(start + per_tar, count))), start):
                member = tarfile.TarInfo(f"{row:09}.bmp")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return f"{folder}/s-{{0000..{tars - 1:04}}}.tar"


def write_model(folder: Path) -> Path:
    """A ResNet of 16 features with random weights, and its image processor."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[DIMENSIONS], depths=[1], layer_type="basic", downsample_in_first_stage=False
    )
    ResNetModel(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": SIDE}).save_pretrained(folder)
    return folder


@dataclass
class Worked:
    """What became of the workers."""

    kills: int
    lost: int
    """Shards that a worker had when it was killed."""
    seconds: float
    cpu_seconds: float


def work_and_kill(command: list[str], out: Path, workers: int, kills: int) -> Worked:
    """Keep so many workers going until all is done; so often, spread over the work, kill one at a random moment.

    Raises:
        SystemExit: a worker fails by itself, or a shard that is done is made again.
    """
    log, environment = out.with_name("log"), {**os.environ, "OMP_NUM_THREADS": "1"}

    def new() -> subprocess.Popen:
        with log.open("ab") as said:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)

    chance, killed, lost, start, made = random.Random(0), 0, 0, time.monotonic(), {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    going = [new() for _ in range(workers)]
    while any(process.poll() is None for process in going):
        time.sleep(chance.uniform(0, 1))
        if any(process.returncode not in (None, 0) for process in going):
            raise SystemExit(log.read_text()[-2000:])
        for marker in (out / "shards").glob("*.json"):
            if made.setdefault(marker.name, marker.stat().st_ino) != marker.stat().st_ino:
                raise SystemExit(f"error: {marker.name}: the shard was made twice")
        if killed < kills and (share := _share_done(out)) > (killed + 0.5) / kills and share < 1:
            victim = chance.choice([i for i, process in enumerate(going) if process.poll() is None])
            going[victim].kill()
            going[victim].wait()
            killed, lost = killed + 1, lost + _had_a_shard(out, going[victim].pid)
            going[victim] = new()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Worked(killed, lost, time.monotonic() - start, cpu)


def _share_done(out: Path) -> float:
    store = Store(out)
    return len(list((out / "shards").glob("*.json"))) / len(store.manifest.shards) if store.begun else 0.0


def _had_a_shard(out: Path, pid: int) -> bool:
    """Whether a process was at a shard: its lock names it and nobody has finished it."""
    held = [lock for lock in (out / "shards").glob("*.lock") if f'"pid": {pid},' in lock.read_text()]
    return any(not lock.with_suffix(".json").exists() for lock in held)


def check(out: Path, model: Path, count: int) -> None:
    """Compute every row again, one batch after the other, and hold it against the file, bit for bit.

    Raises:
        SystemExit: a row or a shard is missing, is there twice, or is not what it must be.
    """
    torch.set_num_threads(1)  # as each worker has
    encoder = load_vision(str(model), resolve_runtime("cpu"), SIDE)
    store = Store(out)
    vectors, contents = store.vectors.map(), store.contents.map()
    shards = store.manifest.shards
    covered = [row for shard in shards for row in (shard.start, shard.stop)]
    if covered[0] != 0 or covered[-1] != count or covered[1:-1:2] != covered[2::2]:
        raise SystemExit("error: the shards are not all rows, each once")
    names = Counter(path.name for path in (out / "shards").glob("*.json"))
    if not store.complete or len(names) != len(shards) or len(vectors) != count:
        raise SystemExit("error: shards are missing")
    for shard in shards:
        for start in range(shard.start, shard.stop, BATCH):
            stop = min(start + BATCH, shard.stop)
            pixels = images(start, stop)
            (right,) = encoder.images(pixels)
            digests = [hashlib.sha256(content).digest() for content in bmp_files(pixels)]
            if not (vectors[start:stop] == right.astype(np.float16)).all():
                raise SystemExit(f"error: rows {start} to {stop} are not the vectors of these images")
            if b"".join(digests) != contents[start:stop].tobytes():
                raise SystemExit(f"error: rows {start} to {stop} are of other images")


def measure(options: argparse.Namespace) -> list[Measurement]:
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder, out = Path(scratch), Path(scratch, "out")
        (folder / "tars").mkdir()
        model, data = write_model(folder / "model"), write_tars(folder / "tars", options.images, options.per_tar)
        command = [sys.executable, "-m", "data_prep", "embed", f"--data={data}", f"--features={model}"]
        command += [f"--features-size={SIDE}", f"--out={out}", "--device=cpu", "--number=0"]
        worked = work_and_kill(command, out, options.workers, options.kills)
        check(out, model, options.images)
        shards = len(Store(out).manifest.shards)
    conditions = (
        f"{options.images:,} synthetic images of {SIDE}x{SIDE}, a tiny ResNet, {shards} shards, {options.workers} "
        f"workers, {worked.kills} kills, {worked.lost} within a shard; {worked.cpu_seconds:.0f} s of CPU"
    )
    rate = Spread.of([options.images / worked.seconds])
    checked = "all rows, bit for bit and in order, against vectors computed from the images' numbers; each shard once"
    return [Measurement("embeddings by killed workers", "images/s", rate, conditions=conditions, checked=checked)]


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "embedding_shards", repeats=False, device=False)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--per-tar", type=int, default=10_000, help="images in a tar file, and in a shard")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--scratch", type=Path, help="folder for the images while it runs (default: the system's)")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv)


if __name__ == "__main__":
    main(sys.argv[1:])
