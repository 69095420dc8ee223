"""A round on W&B, so that a team sees its labelling beside its experiments."""

from collections.abc import Callable

from al.tracking.wandb import LabellingRound, log_labelling_round
from labelling.project import PROPOSAL, Project
from labelling.records import Proposal
from labelling.status import Status, status_of


def track(project: Project, proposal: Proposal, say: Callable[[str], None]) -> None:
    """Log a proposal and the labels before it, as `WANDB_MODE` says; offline without a key."""
    made = project.folder_of(proposal.round)
    name = f"labelling-{project.data.resolve().name}"
    row = metrics(proposal, status_of(project))
    files = [made / PROPOSAL, made / "next.csv"]
    about = LabellingRound(project.state, name, proposal.round, proposal.config, row, project.events.path, files)
    log_labelling_round(about, say)


def metrics(proposal: Proposal, status: Status) -> dict[str, float]:
    """The row of one round."""
    row: dict[str, float] = {
        "round": proposal.round,
        "labels": proposal.labels,
        "trained_on": proposal.trained_on,
        "images": proposal.images,
        "picks": len(proposal.picks),
    }
    if status.accuracy is not None:
        found = status.accuracy
        row |= {"audit/accuracy": found.value, "audit/low": found.low, "audit/high": found.high}
        row["audit/labels"] = status.audit_labels
    if proposal.cross_validation is not None:
        row["cross_validation"] = proposal.cross_validation
    if status.agreement:
        row["kappa"] = status.agreement[-1].kappa
    return row
