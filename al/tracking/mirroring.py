"""Send W&B's server what it lacks of a run, from the run's own files."""

from collections.abc import Callable

from al.storage.files import write_json
from al.storage.run_folder import RunFolder
from al.tracking.description import Description, id_of_run
from al.tracking.server import Unreachable, check_server, keep_files_in
from al.tracking.wandb import WandbTracker, states_on_server


def mirror(folder: RunFolder, run_id: str, say: Callable[[str], None] = print) -> bool:
    """Send the server what it lacks of a run, complete or not, from the run's own files; whether all has arrived.

    Raises:
        UserError: the files cannot be read, or the key is not accepted.
        Unreachable: the server gives no answer.
    """
    description, complete = Description.read(folder), folder.complete
    tracker = WandbTracker(description, run_id, folder.epochs.read(), "online", say, or_offline=False)
    if complete:
        plots = sorted((folder.path / "plots").glob("*.png"))
        result = folder.result()
        tracker.log_end(result, result.data.classes, plots)
    tracker.finish(0 if complete else 1)
    return tracker.arrived


def mirror_if_needed(folder: RunFolder) -> None:
    """Send the server what it lacks of a complete run, under the id that an agent, or its earlier start, gave it."""
    known = folder.read_json("config.json") or {}
    run_id = id_of_run(known.get("wandb_run_id"))
    if not known.get("wandb_run_id"):
        write_json(folder.path / "config.json", dict(known) | {"wandb_run_id": run_id})
    keep_files_in(folder.path.parent.parent)
    try:
        check_server()
        state = states_on_server([run_id]).get(run_id)
        if state is None or not state.has_all_of(folder.result()):
            mirror(folder, run_id)
    except Unreachable as error:
        print(f"W&B cannot be reached ({error}): `make sync` sends the run later")
