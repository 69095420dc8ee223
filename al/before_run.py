"""What is settled before a run is opened: its folder, whether it is complete already, the result that it is to beat."""

from al.config import RunConfig
from al.data import DataSet
from al.errors import UserError
from al.identity import Identity
from al.records import Baseline
from al.storage.checkpoint import Checkpoint
from al.storage.result_files import refresh_aggregate
from al.storage.run_folder import RunFolder
from al.tracking.mirroring import mirror_if_needed
from al.tracking.server import mode
from al.tracking.wandb import finished_elsewhere


def baseline_to_beat(config: RunConfig, fingerprint: str) -> Baseline | None:
    """The stratified run of the same split seed that stop=baseline is to beat: run here, or known to W&B.

    Raises:
        UserError: it has not been run; names the command that does.
    """
    if config.stop != "baseline" or config.method.baseline:
        return None
    baseline = config.baseline_of()
    folder = RunFolder.of(baseline)
    folder.check_identity(Identity.of(baseline, fingerprint))
    test = folder.result().test if folder.complete else finished_elsewhere(baseline, fingerprint)
    if test is None:
        raise UserError(f"stop=baseline: no result in {folder.path}; make it with: {baseline.command()}")
    return Baseline(cell=baseline.cell, accuracy=test["accuracy"], loss=test["loss"])


def checked_folder(config: RunConfig, data: DataSet) -> RunFolder:
    """The run's folder, where this run may be in it; makes nothing. A complete run that is damaged is one no more.

    Raises:
        UserError: it holds another run, or cannot be written, or W&B is asked for what it cannot do.
    """
    mode()
    folder = RunFolder.of(config)
    folder.check_identity(Identity.of(config, data.fingerprint))
    folder.check_writable()
    if folder.complete and (damage := folder.damage()):
        aside = folder.set_results_aside()
        print(f"{folder.path}: {damage}; its results are set aside as {aside.name}, and it is run again")
    return folder


def already_complete(config: RunConfig, folder: RunFolder) -> None:
    """Say so, and mirror the run to W&B where a server is asked for."""
    print(f"complete already: {folder.path}; remove the folder to run it again")
    Checkpoint(folder.path).remove()
    refresh_aggregate(folder.path, pictures=config.pictures)
    if mode() == "online":
        mirror_if_needed(folder)
