"""The status on the terminal, and as one HTML page."""

import base64
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from al.storage.files import write_atomically
from labelling.pages import render
from labelling.project import Project
from labelling.status import Status, sentences


def show(status: Status, console: Console | None = None) -> None:
    """Print tables and sentences."""
    console = console or Console(highlight=False, soft_wrap=True)
    console.print(headline(status), markup=False)
    for title, counts in (("class", status.by_class), ("origin", status.by_origin), ("skipped", status.skipped)):
        if counts:
            table = Table(title, "images" if title == "skipped" else "labels")
            table.columns[1].justify = "right"
            for name, count in counts.items():
                table.add_row(_plain(name), f"{count:,}")
            console.print(table)
    for reason, count in status.set_aside.items():
        console.print(f"set aside: {count:,} {'file' if count == 1 else 'files'}, {reason}", markup=False)
    if status.disputed:
        console.print(f"{status.disputed:,} answers contradict earlier ones and are not used", markup=False)
    for sentence in sentences(status):
        console.print(f"- {sentence}", markup=False)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def headline(status: Status) -> str:
    copies = f" and {status.copies:,} more of the same contents" if status.copies else ""
    return (
        f"{status.folder}: {status.images:,} images{copies}, {status.labels:,} labels in {status.rounds} "
        f"{'round' if status.rounds == 1 else 'rounds'}"
    )


def write_page(project: Project, status: Status) -> Path:
    """`status.html` in the state folder."""
    path = project.state / "status.html"
    pictures = {"curve": _inlined(_curve_figure, status), "agreement": _inlined(_agreement_figure, status)}
    page = render(
        "status.html", status=status, headline=headline(status), sentences=sentences(status), pictures=pictures
    )
    write_atomically(path, page)
    return path


def _inlined(draw, status: Status) -> str | None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if draw(status, path) else None


def _curve_figure(status: Status, path: Path) -> bool:
    """Accuracy by labels with intervals, and where a power law would take it; one point is no curve."""
    from matplotlib.ticker import MaxNLocator

    from sweeps.report.style import drawing, save

    if len(status.curve) < 2:
        return False
    labels = [point.labels for point in status.curve]
    values = [point.accuracy.value for point in status.curve]
    errors = [
        [point.accuracy.value - point.accuracy.low for point in status.curve],
        [point.accuracy.high - point.accuracy.value for point in status.curve],
    ]
    with drawing(7.5, 4.2) as (figure, axes):
        plot = axes[0, 0]
        plot.errorbar(labels, values, errors, fmt="o-", color="#0072B2", capsize=3, label="by the audit, 95 % interval")
        if status.projection is not None:
            further = [labels[-1] * (1 + step / 10) for step in range(11)]
            guesses = [status.projection.accuracy(count) for count in further]
            plot.plot(further, [guess.value for guess in guesses], "--", color="#D55E00", label="power law: a guess")
            low, high = [guess.low for guess in guesses], [guess.high for guess in guesses]
            plot.fill_between(further, low, high, color="#D55E00", alpha=0.2, linewidth=0)
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.set(xlabel="Labels learnt from", ylabel="Accuracy (%)")
        plot.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2)
        save(figure, path)
    return True


def _agreement_figure(status: Status, path: Path) -> bool:
    from matplotlib.ticker import MaxNLocator

    from labelling.estimates import STOP_KAPPA
    from sweeps.report.style import drawing, save

    if not status.agreement:
        return False
    with drawing(7.5, 3.2) as (figure, axes):
        plot = axes[0, 0]
        plot.plot(
            [step.labels for step in status.agreement], [step.kappa for step in status.agreement], "o-", color="#0072B2"
        )
        plot.axhline(STOP_KAPPA, color="#3A3A3A", linestyle="--", linewidth=1)
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.set(xlabel="Labels learnt from", ylabel="Kappa with the round before")
        save(figure, path)
    return True
