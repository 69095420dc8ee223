"""A mistake on any command line is one line and exit status 2."""

import importlib

import pytest

COMMANDS = {
    "sweeps.runner.local": ["--wrong"],
    "sweeps.runner.launch": ["--wrong"],
    "sweeps.runner.sync": ["--wrong"],
    "sweeps.report.__main__": ["--target", "high"],
    "sweeps.study.__main__": ["--wrong"],
    "sweeps.compare.__main__": ["--wrong"],
    "data_prep.__main__": [],
    "train": ["--lr"],
}


def complaint(capsys, module, *arguments) -> str:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(list(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("module", COMMANDS)
def test_wrong_options(capsys, module):
    assert complaint(capsys, module, *COMMANDS[module]).endswith("; see --help\n")


@pytest.mark.parametrize("module", ["sweeps.runner.local", "sweeps.runner.sync", "sweeps.report.__main__"])
@pytest.mark.parametrize("folder", ["", " "])
def test_no_folder_is_not_the_current_one(capsys, module, folder):
    files = ["demo.yaml"] if module == "sweeps.runner.local" else []
    assert "names nothing" in complaint(capsys, module, *files, "--results-dir", folder)
