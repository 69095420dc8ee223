"""Get a model of the Hugging Face Hub as a folder, from its cache or downloaded; without a network one line at once."""

from pathlib import Path

from al.errors import UserError, first_line

TIMEOUT = 10  # seconds without an answer
WEIGHTS = ("*.safetensors", "*.bin")


def model_folder(parameter: str, model: str, remedy: str) -> Path:
    """The folder of a model: `model` itself where it is one, or that of `OWNER/NAME` or `OWNER/NAME@REVISION`.

    One request asks the Hub what there is: without a network it fails at once, where the loaders would retry
    each file for half a minute.

    Args:
        parameter: what the user called it, for the error.
        remedy: what to do where it cannot be loaded.

    Raises:
        UserError: no such folder, and the Hub does not give it.
    """
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    if model.startswith((".", "/", "~")):
        raise UserError(f"{parameter}={model!r}: no such folder; {remedy}")
    from huggingface_hub import HfApi, snapshot_download

    if (cached := cached_model(model)) is not None:
        return cached
    name, _, revision = model.partition("@")
    try:
        info = HfApi().model_info(name, revision=revision or None, timeout=TIMEOUT)
        files = [file.rfilename for file in info.siblings or []]
        weights = next((kind for kind in WEIGHTS if any(Path(file).match(kind) for file in files)), WEIGHTS[0])
        patterns = ["*.json", "*.txt", "*.model", weights]
        # by name, not by commit: only then can it be found again without a network
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # the Hub's client raises its own, its transport's and the system's errors
        reason = first_line(error)
    raise UserError(
        f"{parameter}={model!r}: no such folder, and the Hugging Face Hub does not give it ({reason}); {remedy}"
    )


def existing_weights(path: Path) -> Path:
    """`path`, if it is a file.

    Raises:
        UserError: it is not there.
    """
    if not path.is_file():
        raise UserError(f"weights={str(path)!r}: no such file; use imagenet, none, or a .safetensors or .pth file")
    return path


def cached_model(model: str) -> Path | None:
    """The folder of `OWNER/NAME` or `OWNER/NAME@REVISION` in the Hub's own cache; None where it is not there whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    name, _, revision = model.partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except (OSError, HFValidationError):
        return None
    whole = (folder / "config.json").is_file() and any(any(folder.glob(kind)) for kind in WEIGHTS)
    return folder if whole else None
