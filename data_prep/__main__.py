"""`python -m data_prep look DIR`: report on a folder of images. `python -m data_prep clip`: make zero-shot labels.

`python -m data_prep map`: place the training images on a plane, for the report. `python -m data_prep embed`: embeddings
of very many images, by any number of processes.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from al.arguments import Parser
from al.config import RunConfig
from al.errors import NoRoom, UserError
from al.identity import FILE
from al.options import add_field
from al.threads import sleep_while_waiting
from data_prep.sharded.records import FLOATS

if TYPE_CHECKING:
    from al.data import DataSet
    from data_prep.zero_shot.labels import ZeroShot
    from data_prep.zero_shot.statistics import Table

FIELDS = ("dataset", "data_dir", "split_file", "image_size", "clip_model", "clip_prompt", "device", "split_seed")
FIELDS += ("results_dir",)
"""Parameters of a run that say what its zero-shot labels are and where they lie."""
MAP_FIELDS = ("dataset", "data_dir", "split_file", "image_size", "features", "features_size", "results_dir")
"""Parameters of a run that say what its images are, and what embeddings of them there may be."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 on a full disk, 2 for something else that the user can put right."""
    sleep_while_waiting()  # before torch is imported
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except UserError as error:
        code, said = 2, f"error: {error}"
    except NoRoom as error:
        code, said = 1, f"error: {error}"
    print(said, file=sys.stderr)
    return code


def _parser() -> Parser:
    parser = Parser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    clip = commands.add_parser("clip", help="zero-shot labels with their statistics", description=clip_command.__doc__)
    clip.set_defaults(command=clip_command)
    _add_clip_options(clip)
    pool_map = commands.add_parser("map", help="a map of the pool, for the report", description=map_command.__doc__)
    pool_map.set_defaults(command=map_command)
    _add_fields(pool_map, *MAP_FIELDS)
    embed = commands.add_parser("embed", help="embeddings of very many images", description=embed_command.__doc__)
    embed.set_defaults(command=embed_command)
    _add_embed_options(embed)
    look = commands.add_parser("look", help="a report on a folder of images", description=look_command.__doc__)
    look.set_defaults(command=look_command)
    look.add_argument("folder", type=Path, help="holds {train,test}/<class>/* or <class>/*")
    return parser


def _add_clip_options(parser: Parser) -> None:
    _add_fields(parser, *FIELDS)
    parser.add_argument("--split", choices=("train", "test"), default="train", help="images to label (default: train)")
    parser.add_argument(
        "--cut", type=int, metavar="N",
        help="size of the initial pool to report on (default: 1 %% of the images, at least 150, as in the study)",
    )  # fmt: skip
    parser.add_argument(
        "--from-logits", type=Path, metavar="FILE.csv",
        help="take the outputs from this file instead of running the model: a column for each class, optionally the "
        "true label (target-0, target, label, true) and the row (instance_id, row, index, id)",
    )  # fmt: skip
    parser.add_argument(
        "--order", choices=("row", "by-class"), default="row",
        help="which line of that file is of which image. row: line i is of row i; by-class: the k-th line of a class "
        "is of the k-th image of its folder (default: row)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for tables and pictures (default: RESULTS_DIR/clip/KEY)"
    )
    parser.add_argument(
        "--published-statistics", type=Path, metavar="FILE.csv",
        help="published numbers by class (columns class, original, clip_predicted, changed, mean_confidence), to be "
        "shown beside yours where the images are the same",
    )  # fmt: skip
    parser.add_argument(
        "--published-transitions", type=Path, metavar="FILE.csv",
        help="their matrix of true by predicted classes",
    )  # fmt: skip
    parser.add_argument("--wandb", action="store_true", help="log tables and pictures to Weights & Biases too")


def _add_embed_options(parser: Parser) -> None:
    parser.add_argument(
        "--data", required=True,
        help="a folder of images in any nesting, or WebDataset's tar files as a pattern, 'shards-{000..099}.tar'",
    )  # fmt: skip
    parser.add_argument("--features", required=True, metavar="MODEL", help="Hugging Face vision model or its folder")
    _add_fields(parser, "features_size")
    parser.add_argument(
        "--image-size", "--image_size", metavar="VALUE",
        help="side in pixels to bring the centre square of each image to; unset: as stored, if all have one size",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the result, on a file system that all processes share"
    )
    parser.add_argument(
        "--shard-size", type=int, default=65_536, metavar="N",
        help="images in a shard, the most work that a killed process loses (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=FLOATS, default=FLOATS[0],
        help="number format on disk; computed in float32 (default: %(default)s, which takes half the room)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    parser.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS",
        help="have Ray Data start the workers: on this machine, or on the cluster at ADDRESS (auto: the one that runs)",
    )  # fmt: skip
    parser.add_argument("--skip-broken", action="store_true", help="write zeros for images that cannot be read")
    parser.add_argument(
        "--number", type=int, metavar="I",
        help="number of this process on its machine, as --workers gives it: the process takes the I-th card and shows "
        "no progress",
    )  # fmt: skip
    _add_fields(parser, "device")


def look_command(options: argparse.Namespace) -> None:
    """Decode all images of a folder and print what is there: classes, sizes, broken files, exact duplicates."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    from data_prep.folder_report import inspect_folder, lines

    report = inspect_folder(options.folder.expanduser())
    table = RichTable(title=escape(f"{report.path}: {report.images:,} images in {len(report.classes):,} classes"))
    table.add_column("class")
    for split in report.splits:
        table.add_column(split or "images", justify="right")
    for row in report.classes:
        name = os.fsencode(row.name).decode(errors="backslashreplace")
        table.add_row(escape(name), *(f"{count:,}" for count in row.counts))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for line in lines(report):
        console.print(escape(line))


def _add_fields(parser: Parser, *names: str) -> None:
    """Add fields of RunConfig as options, with their documentation and defaults."""
    for name in names:
        add_field(parser, name, text=(RunConfig.model_fields[name].description or "").removeprefix("init=clip: "))
    parser.set_defaults(**{name: RunConfig.model_fields[name].default for name in names})


def clip_command(options: argparse.Namespace) -> None:
    """Compute or import zero-shot labels, keep them for runs with init=clip, and report how good they are."""
    from al import seeds
    from data_prep.datasets import load_dataset
    from data_prep.zero_shot.labels import clip_initial_pool
    from data_prep.zero_shot.statistics import Published, report, write

    config = RunConfig.from_mapping({name: getattr(options, name) for name in FIELDS})
    published = options.published_statistics and Published.read(
        options.published_statistics, options.published_transitions
    )
    data = load_dataset(config.dataset, config.data_dir, config.image_size, split_file=config.split_file)
    images = getattr(data, options.split)
    cut = _cut(options.cut, len(images))
    found = _labels(options, config, data)
    pool, _ = clip_initial_pool(found.probs, np.arange(len(images)), cut, seeds.rng(config.split_seed, 0, "initial"))
    tables, figures = report(data.name, options.split, images.labels, found.probs, images.classes, pool, published)
    files = write(tables, figures, options.out or Path(config.results_dir) / "clip" / found.key)
    _print_table(tables["clip_statistics"])
    print(f"from {found.source}; {len(files)} tables and pictures in {files[0].parent}")
    if options.wandb:
        from al.tracking.wandb import log_report

        pictures = [file for file in files if file.suffix == ".png"]
        log_report(config.results_dir, f"clip-{data.name}-{options.split}", "clip", tables, pictures)


def embed_command(options: argparse.Namespace) -> int:
    """Make embeddings of very many images, shard by shard. Any number of processes on any number of machines give the
    same command; each takes the next shard that nobody has. Killed and started again they go on. The result is one
    memory-mapped file, to be used with --features=file:DIR.
    """
    from data_prep.sharded.embedding import embed_all
    from data_prep.sharded.order import Order

    known = RunConfig.from_mapping({name: getattr(options, name) for name in ("features_size", "image_size", "device")})
    for name in ("shard_size", "workers"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}={getattr(options, name)}: too few; use 1 or more")
    order = Order(
        data=options.data,
        out=options.out,
        features=options.features,
        features_size=known.features_size,
        image_size=known.image_size,
        dtype=options.dtype,
        shard_size=options.shard_size,
        device=known.device,
        skip_broken=options.skip_broken,
        number=options.number,
    )
    return embed_all(order, options.workers, options.ray)


def map_command(options: argparse.Namespace) -> None:
    """Place the training images on a plane by t-SNE: by their pixels, or by embeddings that runs have computed."""
    from al.config import OWN_FEATURES
    from data_prep.datasets import load_dataset
    from data_prep.embeddings import cached_embeddings, load_embeddings
    from data_prep.pool_map import map_file, write_map

    config = RunConfig.from_mapping({name: getattr(options, name) for name in MAP_FIELDS})
    data = load_dataset(config.dataset, config.data_dir, config.image_size, split_file=config.split_file)
    vectors, source = None, "pixels"
    if config.features != OWN_FEATURES:
        asked = config.model_copy(update={"strategy": "coreset"})  # one that reads them
        found = load_embeddings(asked, data) if config.features.startswith(FILE) else cached_embeddings(asked, data)
        if found is None:
            raise UserError(f"features={config.features}: not computed yet; run an experiment with them first")
        vectors, source = found.train, config.features
    path = map_file(config.results_dir, data.fingerprint)
    write_map(data, vectors, source, path)
    print(f"{len(data.train):,} images by {source}: {path}")


def _cut(asked: int | None, images: int) -> int:
    """The size of the initial pool to report on: 1 % of the images and 150 at least, unless the user says."""
    cut = min(images, max(150, round(0.01 * images))) if asked is None else asked
    if not 0 < cut <= images:
        raise UserError(f"--cut={cut}: the initial pool takes from {images} images; use 1 to {images}")
    return cut


def _labels(options: argparse.Namespace, config: RunConfig, data: "DataSet") -> "ZeroShot":
    """Zero-shot labels imported, from the cache, or computed; only the last loads torch."""
    from data_prep.zero_shot.labels import cache_dir, cached, import_logits, zero_shot

    where = (data, config.clip_model, config.clip_prompt)
    folder = cache_dir(config.results_dir)
    if options.from_logits is not None:
        return import_logits(data, options.from_logits, *where[1:], folder, split=options.split, order=options.order)
    if (found := cached(*where, folder, split=options.split)) is not None:
        return found
    from al.runtime import resolve_runtime

    return zero_shot(*where, resolve_runtime(config.device), folder, split=options.split)


def _print_table(rows: "Table") -> None:
    """Print the rows in columns, without the published counts: the CSV file has them too."""
    counts = ("published_original", "published_clip_predicted", "published_changed")
    header = [key for key in rows[0] if key not in counts]
    lines = [[name.replace("_", " ") for name in header], *([str(row.get(key, "")) for key in header] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths))
        print("  ".join([line[0].ljust(len(first)), *others]))


if __name__ == "__main__":
    sys.exit(main())
