"""`python -m sweeps.compare DIR`: which way to choose labels saves most of them, on your own images.

Looks at the folder, makes a test set where there is none, chooses model, label counts, strategies and seeds, says
why, writes the sweep file, runs it and reports. Stopped anywhere and started again it goes on.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from al.arguments import Parser, folder_name
from al.config import RunConfig
from al.errors import EXIT_HELD, NoRoom, UserError
from al.identity import FILE
from al.signals import leave_on_signals
from sweeps.runner.cards import add_workers_option, chosen

if TYPE_CHECKING:
    from sweeps.compare.choosing import Choice, Images
    from sweeps.compare.telling import Teller

DEMO = Path("data/digits")
PLACE = Path("results/compare")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 where a run failed, 2 for what the user can put right, or that of a signal."""
    from sweeps.compare.calibrating import Stopped

    options = _parser().parse_args(arguments)
    try:
        return _compare(options)
    except UserError as error:
        code, said = 2, f"error: {error}"
    except NoRoom as error:
        code, said = 1, f"error: {error}"
    except Stopped as stop:
        code, said = stop.code, str(stop)
    except KeyboardInterrupt:
        code, said = 130, "stopped: give the same command again to go on"
    except Timeout as held:
        code, said = EXIT_HELD, f"error: another process compares in {Path(held.lock_file).parent}; wait for it"
    print(said, file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "python -m sweeps.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", nargs="?", metavar="DIR",
        help=f"holds <class>/* or {{train,test}}/<class>/*; without it scikit-learn's digits are written to {DEMO}",
    )  # fmt: skip
    parser.add_argument(
        "--features", metavar="MODEL",
        help="frozen embeddings to learn from: a Hugging Face vision model, its folder, or file:PATH (default: a model "
        "that is on this machine or can be downloaded; else a small network learns from scratch)",
    )  # fmt: skip
    parser.add_argument(
        "--features-size", type=int, metavar="SIDE", help="side in pixels that this model sees (default: its own)"
    )
    parser.add_argument("--strategies", metavar="A,B", help="what to compare with random and stratified sampling")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="number of split seeds (default: as many as fit in the time)"
    )
    parser.add_argument("--minutes", type=float, default=30, metavar="M", help="time for the runs (default: 30)")
    add_workers_option(parser, "jobs", "runs")
    parser.add_argument(
        "--results-dir", type=folder_name, metavar="DIR", help=f"folder that gets the results (default: {PLACE}/<name>)"
    )
    parser.add_argument(
        "--dry-run", action="store_true",
        help="do the two runs that tell how long one takes, show what would be run and how long it takes, and stop",
    )  # fmt: skip
    return parser


def _compare(options: argparse.Namespace) -> int:
    from sweeps.compare.calibrating import check_time, measure_pace, plan
    from sweeps.compare.choosing import Wishes, choose
    from sweeps.compare.telling import Teller
    from sweeps.compare.writing import NAME, check_same_folder, earlier_value, sweep_content, write_sweep

    check_time(options.minutes, options.seeds)
    strategies = tuple(name.strip() for name in (options.strategies or "").split(",") if name.strip())
    tell = Teller()
    folder = _folder(options.folder, tell)
    results = Path(options.results_dir) if options.results_dir else PLACE / folder.name
    limit = chosen(options.jobs, "jobs", results)
    sweep = results / NAME
    check_same_folder(sweep, folder)
    with _alone(results):
        images = _look(folder, results, tell)
        earlier = earlier_value(sweep, "variant")
        choice = choose(images, Wishes(options.features, options.features_size, strategies, earlier))
        tell.choice(choice.reasons)
        pace = measure_pace(sweep_content(images, choice, (), results), choice, sweep, limit)
        _look_at_embeddings(choice, results, tell)
        planned = plan(choice, pace, options.minutes, limit, options.seeds)
        tell.plan(planned, pace.run, limit)
        write_sweep(sweep, sweep_content(images, planned.choice, planned.seeds, results), planned.choice)
        tell.line(f"sweep file: {sweep}")
        return 0 if options.dry_run else _run_and_report(sweep, results, limit, tell)


def _folder(named: str | None, tell: "Teller") -> Path:
    """The folder to compare on, as an absolute path; where none is named, the demo's, written now."""
    if named is not None:
        return Path(named).expanduser().resolve()
    from data_prep.sources.digits import write_digits

    tell.line(f"no folder is named: scikit-learn's 1,797 digits, as image files in {DEMO}, stand in for yours")
    write_digits(DEMO)
    return DEMO.resolve()


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """Keep a second comparison out of the results folder.

    Raises:
        UserError: it cannot be written.
        Timeout: another process is in it.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock = FileLock(results / ".compare.lock", blocking=False)
        lock.acquire()
    except OSError as error:
        if isinstance(error, Timeout):
            raise
        raise UserError(f"{results}: cannot be written ({error.strerror}); name another --results-dir") from None
    with lock:
        yield


def _look(folder: Path, results: Path, tell: "Teller") -> "Images":
    """Look at every image, put each on a side, keep and tell what came of it."""
    from data_prep.folder_report import look_at_folder, report_on
    from data_prep.placing import keep, kept, place
    from data_prep.sources.imagefolder import check_name
    from sweeps.compare.choosing import Images

    look = look_at_folder(folder, memory=results / "images.sqlite")
    for row in look.listing.classes:
        check_name(folder, row.name)
    placement = place(look, kept(results))
    split_file = None if placement.as_it_lies else keep(placement, results)
    tell.folder(report_on(look), placement, split_file)
    counts = {name: (found["train"], found["test"]) for name, found in placement.counts.items()}
    if len(counts) < 2:
        raise UserError(
            f"{folder}: {len(counts)} class with training and test images; a classifier needs two or more folders, "
            "with two different images in each"
        )
    used = {image.path for image in placement.images}
    sizes = Counter((seen.width, seen.height) for file, seen in zip(look.listing.files, look.seen) if file in used)
    return Images(folder, counts, sizes, split_file)


def _look_at_embeddings(choice: "Choice", results: Path, tell: "Teller") -> None:
    """Tell of test images that look like training images to the model, once a run has computed embeddings."""
    from data_prep.embeddings import cached_embeddings
    from data_prep.sources.imagefolder import load_imagefolder
    from sweeps.compare.telling import embedding_duplicates_told

    config = RunConfig.from_mapping({**choice.parameters, "results_dir": str(results)})
    if not config.learner.reads_embeddings or config.features.startswith(FILE):
        return
    split_file = None if config.split_file is None else Path(config.split_file)
    data = load_imagefolder(Path(config.data_dir), config.image_size, split_file=split_file)
    if (embeddings := cached_embeddings(config, data)) is not None:
        for text in embedding_duplicates_told(data, embeddings):
            tell.line(text)


def _run_and_report(sweep: Path, results: Path, limit: int, tell: "Teller") -> int:
    """Run the sweep and report; the answer and the page are the last lines."""
    from sweeps.compare.calibrating import run_jobs
    from sweeps.report.build import build
    from sweeps.report.load import load_results, select
    from sweeps.report.studies import STUDIES
    from sweeps.runner.grid import load
    from sweeps.runner.local import make_jobs

    jobs, _ = make_jobs([load(sweep)])
    run_jobs(jobs, limit)
    found = select(load_results(results), [sweep], results)
    report = build(found, results, results / "report", extensions=STUDIES)
    tell.answer(report)
    return 0


if __name__ == "__main__":
    leave_on_signals()  # while the imports take their second
    sys.exit(main())
