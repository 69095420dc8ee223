"""Panels of the W&B report and of the workspace view; metric names are the tracking's own."""

from collections.abc import Sequence

from al.records import PHASES
from al.tracking import projection


def curve_panels(x: str, by: str) -> list:
    """Learning curves and per-class metrics, averaged over the runs of a run set that share the parameter `by`."""
    import wandb_workspaces.reports.v2 as wr

    panels = [
        _curve("Test accuracy (%)", projection.CURVE_ACCURACY, x, by),
        _curve("Macro F1", projection.CURVE_F1, x, by),
        wr.LinePlot(title="F1 by class", x=x, metric_regex="class/.*/f1", **_grouped(by)),
        wr.LinePlot(title="Labels by class", x=x, metric_regex="labels_by_class/.*", **_grouped(by)),
    ]
    return _placed(panels)


def end_panels() -> list:
    """What each configuration ended with and what it cost."""
    import wandb_workspaces.reports.v2 as wr

    seconds, accuracy = wr.SummaryMetric("training_time_seconds"), wr.SummaryMetric(projection.TEST_ACCURACY)
    panels = [
        _bars("Test accuracy of the best epoch (%)", projection.TEST_ACCURACY),
        _bars("Labels used", "labels_used"),
        _bars("Human labels used", "human_labels_used"),
        _bars("Training time (s)", "training_time_seconds"),
        wr.ScatterPlot(title="Accuracy against time, one point a run", x=seconds, y=accuracy),
        _curve("Test loss by epoch", projection.TEST_LOSS, projection.EPOCH, "cell"),
    ]
    return _placed(panels)


def time_panels() -> list:
    """Seconds of each phase by epoch."""
    return _placed([_curve(f"Seconds: {phase}", f"seconds/{phase}", projection.EPOCH, "cell") for phase in PHASES])


def pick_panels() -> list:
    """The picture sheets of the picks and what the strategies say of them."""
    import wandb_workspaces.reports.v2 as wr

    sheets = wr.MediaBrowser(title="What was picked", media_keys=[projection.PICK_SHEET], num_columns=4)
    names = {"mean_score": "Mean score of the picks", "class_entropy": "Entropy of the picks' classes"}
    return _placed(
        [sheets, *(_curve(title, f"pick/{name}", projection.LABELS, "cell") for name, title in names.items())]
    )


def _grouped(by: str) -> dict[str, object]:
    """`by="strategy"` is right only where a run set holds one variant; `cell` keeps every configuration apart."""
    import wandb_workspaces.reports.v2 as wr

    return {"groupby": wr.Config(by), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}


def _curve(title: str, metric: str, x: str, by: str):
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, x=x, y=[metric], max_runs_to_show=300, **_grouped(by))


def _bars(title: str, metric: str):
    import wandb_workspaces.reports.v2 as wr

    metrics = [wr.SummaryMetric(metric)]
    return wr.BarPlot(title=title, metrics=metrics, orientation="v", max_runs_to_show=300, **_grouped("cell"))


def _placed(panels: Sequence) -> list:
    """Two panels a row."""
    import wandb_workspaces.reports.v2 as wr

    for number, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (number % 2), y=7 * (number // 2), w=12, h=7)
    return list(panels)
