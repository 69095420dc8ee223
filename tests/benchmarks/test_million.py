"""What the benchmark of selection from a file says is what it measured, and what it extrapolates is marked as such."""

import mmap
import time

import pytest

import benchmarks.__main__ as all_benchmarks
from al.errors import UserError
from benchmarks import million, selection
from benchmarks.million import Cost, Way


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    selection.write_pool(folder, (600, 16), "float16", 40, ["margin"])
    return folder


@pytest.mark.parametrize("given", million.STRATEGIES)
def test_every_way_selects_from_the_files(given, folder):
    cost = million.measure_here(Way(given), folder, 20)
    assert cost.mib > 10
    assert cost.wall > 0


def test_parameters_reach_the_strategy(folder):
    pool = selection.open_pool(folder, ["probs"], in_file=True)
    plain, noisy = (Way(given).select(pool, 20).positions for given in ("margin", "margin:batch_noise=power"))
    assert plain.tolist() != noisy.tolist()
    with pytest.raises(UserError, match="batch_nose"):
        Way("margin:batch_nose=power").select(pool, 20)


def test_ten_million_rows_are_a_straight_line_and_say_so():
    costs = {Way("margin:batch_noise=power"): [Cost(1, 2, 300), Cost(10, 20, 390)]}
    # 9 more millions at 10 s a million; 18 s by the clock and 90 MiB for 900,000 rows
    table = million.table(costs, (100_000, 1_000_000))
    assert table.splitlines()[0].endswith("| 1,000,000 rows | 10,000,000 rows (extrapolated) |")
    assert table.splitlines()[-1] == (
        "| `margin, batch_noise=power` | 1.0 s (2.0 s), 300 MiB | 10 s (20 s), 390 MiB | 100 s (200 s), 1,290 MiB |"
    )
    rows = million.measurements(costs, million.parse([]))
    assert [row.extrapolated for row in rows] == [False, False, True]
    assert "EXTRAPOLATED" in rows[-1].conditions


def test_a_single_number_of_rows_extrapolates_nothing():
    costs = {Way("margin"): [Cost(1, 2, 300)]}
    assert "extrapolated" not in million.table(costs, (1000,))
    assert len(million.measurements(costs, million.parse(["--rows=1000"]))) == 1


def test_memory_that_is_given_back_is_seen():
    size = 64 * 2**20
    with million.anonymous_mib() as most:
        block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # goes back to the system when it is closed
        block.write(bytes(size))
        time.sleep(0.1)
        block.close()
    assert most[0] - million._anonymous() > 50


@pytest.mark.parametrize("wrong", ["--rows=10,5", "--rows=0", "--strategies=nonsense"])
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        million.parse([wrong])
    assert ended.value.code == 2
    assert wrong.partition("=")[0] in capsys.readouterr().err


def test_options_of_one_benchmark_go_to_it_alone(monkeypatch, capsys, tmp_path):
    commands = []
    monkeypatch.setattr(all_benchmarks.subprocess, "run", lambda command, **_: commands.append(command))
    all_benchmarks.main(["million", "--strategies=margin", f"--out={tmp_path}"])
    assert "--strategies=margin" in commands[0]
    with pytest.raises(SystemExit):
        all_benchmarks.main(["million", "startup", "--strategies=margin"])
    assert "--strategies=margin: options of one benchmark" in capsys.readouterr().err
