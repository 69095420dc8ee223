"""Imports point one way, heavy ones come late, and what knows a library or a device is one module."""

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import launch
import pytest

ROOT = launch.ROOT
ROOMS = ("al", "data_prep", "labelling", "sweeps")
SOURCES = [ROOT / "train.py", *(path for part in ROOMS for path in (ROOT / part).rglob("*.py"))]
DOORS = {"al/__main__.py", "al/__init__.py"}
"""They open the labelling to `python -m al` and `al.open`, when they are called: doors, as `train.py` is one."""


HEAVY = {"torch", "wandb", "faiss", "sklearn", "matplotlib", "transformers", "scipy", "pandas"}


def imported(path: Path, *, at_start: bool = False) -> Iterator[str]:
    """Dotted names of the modules that a file imports; `at_start`: when it is imported itself."""
    tree = ast.parse(path.read_text())
    nodes = _run_at_import(tree) if at_start else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _run_at_import(child)


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def importers(package: str, sources=SOURCES) -> set[str]:
    return {where(path) for path in sources if any(name.split(".")[0] == package for name in imported(path))}


def _imports_below(path: Path, package: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for name in imported(path))


def below(folder: str) -> list[Path]:
    return [path for path in SOURCES if where(path).startswith(f"{folder}/")]


class TestDirection:
    @pytest.mark.parametrize(
        ("folder", "forbidden"),
        [
            ("al", {"data_prep", "sweeps", "labelling", "train", "tests", "benchmarks"}),
            ("data_prep", {"sweeps", "labelling", "train", "tests", "benchmarks"}),
            ("sweeps", {"train", "data_prep", "labelling", "tests", "benchmarks"}),
            ("labelling", {"train", "tests", "benchmarks"}),
        ],
    )
    def test_is_one_way(self, folder, forbidden):
        assert below(folder)
        for path in below(folder):
            used = {name.split(".")[0] for name in imported(path)}
            through = {"labelling"} if where(path) in DOORS else set()
            if where(path).startswith("sweeps/compare/"):  # a comparison begins with a look at the images
                through |= {"data_prep"}
            assert used & forbidden <= through, where(path)

    def test_doors_open_when_they_are_called(self):
        for door in DOORS:
            assert "labelling" in {name.split(".")[0] for name in imported(ROOT / door)}
        door = ROOT / "al/__init__.py"
        assert not list(imported(door, at_start=True))

    def test_labelling_knows_the_looks_of_the_report_only(self):
        for path in below("labelling"):
            own = {name for name in imported(path) if name.split(".")[0] == "sweeps"}
            looks = {"sweeps.report", "sweeps.report.style.drawing", "sweeps.report.style.save"}
            assert own <= looks, where(path)

    def test_strategies_are_pure_numpy(self):
        allowed = {"numpy", "scipy", "al", *sys.stdlib_module_names}
        for path in below("al/strategies"):
            names = set(imported(path))
            besides = {"faiss"} if path.name == "clustering.py" else set()
            assert {name.split(".")[0] for name in names} <= allowed | besides, where(path)
            own = {name for name in names if name.startswith("al.")}
            fine = ("al.strategies", "al.storage", "al.stopwatch", "al.errors", "al.seeds", "al.fast.switch")
            assert all(name.startswith(fine) for name in own), where(path)

    def test_data_preparation_knows_no_run(self):
        run = (
            "al.tracking.wandb",
            "al.learning.trainer",
            "al.learning.network_learner",
            "al.strategies",
            "al.budget",
            "al.storage.result_files",
            "al.records",
        )
        # its commands report to W&B; with nothing labelled a strategy can choose
        may = {"__main__.py": "al.tracking.wandb", "first_labels.py": "al.strategies"}
        for path in below("data_prep"):
            known = [name for name in imported(path) if name.startswith(run)]
            assert not [name for name in known if not name.startswith(may.get(path.name, "none"))], where(path)


class TestOnePlace:
    def test_wandb_in_a_run(self):
        assert importers("wandb", [ROOT / "train.py", *below("al"), *below("data_prep"), *below("labelling")]) == {
            "al/tracking/wandb.py"
        }

    def test_the_study_in_the_report(self):
        knows = {where(path) for path in below("sweeps/report") if _imports_below(path, "sweeps.study")}
        assert knows == {"sweeps/report/studies.py"}

    def test_faiss(self):
        assert importers("faiss") == {"al/strategies/clustering.py"}

    def test_what_only_one_kind_of_device_does(self):
        users = {where(path) for path in SOURCES if _imports_below(path, "al.nvidia")}
        assert users == {"al/runtime.py"}

    @pytest.mark.parametrize("device", ["cuda", "mps"])
    def test_devices(self, device):
        """As a string, `"cuda:0"`, or a name, `torch.cuda`; prose may say it, `al/nvidia` call it."""
        for path in SOURCES:
            if where(path) == "al/runtime.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                said = isinstance(node, ast.Constant) and str(node.value).split(":")[0] == device
                named = isinstance(node, ast.Attribute) and node.attr == device and path not in below("al/nvidia")
                found = said or named
                assert not found, f"{where(path)}:{node.lineno}"


class TestHelp:
    def test_names_every_parameter_with_its_default(self):
        from al.config import RunConfig

        outcome = launch.command("--help")
        assert outcome.code == 0
        for name, field in RunConfig.model_fields.items():
            assert f"--{name}" in outcome.stdout
            assert " ".join(field.description.split()[:3]) in " ".join(outcome.stdout.split())
        assert "[0.15]" in outcome.stdout

    def test_answers_in_under_a_second(self):
        """Of processor time, the least of three: what a quiet machine takes, as others may be busy on this one."""

        def processor_seconds() -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            launch.command("--help")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

        assert min(processor_seconds() for _ in range(3)) < 1

    @pytest.mark.parametrize("argument", ["--help", "--lr=-1", "--no_such=1"])
    def test_and_mistakes_need_no_heavy_import(self, argument):
        code = (
            f"import sys, train; heavy = {HEAVY!r}\n"
            "try: train.main([sys.argv[1]])\n"
            "except SystemExit: pass\n"
            "print('loaded:', sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, argument], cwd=ROOT, env=launch.environment(), capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr

    def test_nothing_happens_when_a_module_is_imported(self, tmp_path):
        """No module prints, writes a file, or touches the seeds, warnings and signals of who imports it."""
        modules = [
            where(path).removesuffix(".py").replace("/", ".")
            for path in SOURCES
            if path.name not in ("__init__.py", "__main__.py")
        ]
        code = (
            "import sys, signal, os; import numpy, torch\n"
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            "state = lambda: (numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist(),"
            " signal.getsignal(signal.SIGTERM), torch.get_num_threads(), dict(os.environ))\n"
            "before = state()\n"
            f"for name in {modules!r}: __import__(name)\n"
            "assert state() == before\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=launch.environment(tmp_path, MPLCONFIGDIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert not [path for path in tmp_path.iterdir() if "matplotlib" not in path.name and "font" not in path.name]
