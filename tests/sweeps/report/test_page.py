"""The command, the page and the files: complete, self-contained, and safe with hostile names."""

import base64
import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from report_results import World, write_cells, write_run, write_study

from al.config import RunConfig
from sweeps.report.__main__ import main
from sweeps.report.style import looks

HOSTILE = ("<script>alert(1)</script>", '" onload="x', "a&b", "cat|dog", "$x^2$", "e", "f", "g", "h", "i")
DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
FIVE = ("stratified", "random", "uncertainty", "margin", "typiclust")


def small(classes=tuple("abcdefghij")) -> World:
    return World(classes=classes, train=2000, test=500)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results") / "<img src=x onerror=alert(2)>"
    write_cells(root, small(HOSTILE), FIVE, (12, 34, 56), **DIGITS)
    write_run(root, RunConfig(strategy="margin", split_seed=78, **DIGITS), small(HOSTILE), complete=False)
    return root


@pytest.fixture(scope="module")
def page(results):
    assert main(["--results-dir", str(results)]) == 0
    return (results / "report" / "index.html").read_text()


class Tags(HTMLParser):
    """Every tag with its attributes, and whether each is closed in order."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_says_what_it_shows(page):
    tags = Tags(page)
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    targets = {attrs["href"][1:] for tag, attrs in tags.found if tag == "a"}
    assert targets <= set(tags.ids)
    assert len(targets) > 8
    images = [attrs for tag, attrs in tags.found if tag == "img"]
    assert len(images) == 7  # curves, calibration, confusion, classes and overlap of the picks, epochs, time
    assert all(len(image["alt"]) > 20 for image in images)
    assert page.index("Contents") < page.index("In short") < page.index("<table")


def test_nothing_is_fetched_and_only_its_own_scripts_run(page):
    tags = Tags(page)
    assert not [tag for tag, _ in tags.found if tag in ("iframe", "object", "embed", "form", "base")]
    (policy,) = [attrs["content"] for tag, attrs in tags.found if tag == "meta" and "http-equiv" in attrs]
    running = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{digest}'" for digest in hashes))
    assert not re.search(r"script-src[^;]*(unsafe|data:|http|\*)", policy)
    links = [value for _, attrs in tags.found for name, value in attrs.items() if name in ("src", "href", "srcset")]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not [name for _, attrs in tags.found for name in attrs if name.startswith("on")]
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import", style)


def test_hostile_names_are_shown_not_executed(page, results):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in page
    assert "<img src=x" not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page).group(1)
    assert "<" not in data
    assert HOSTILE[0] in {row["name"] for row in json.loads(data)["settings"][0]["classes"]}
    for svg in (results / "report" / "figures").glob("*.svg"):
        assert "<script" not in svg.read_text()
    for table in (results / "report" / "tables").glob("*.md"):
        assert "<script" not in table.read_text()


def test_every_figure_and_table_comes_in_both_formats(page, results):
    figures_found = {path.name for path in (results / "report" / "figures").iterdir()}
    assert {name.removesuffix(".png") for name in figures_found if name.endswith(".png")} == {
        name.removesuffix(".svg") for name in figures_found if name.endswith(".svg")
    }
    tables_found = {path.name for path in (results / "report" / "tables").iterdir()}
    wanted = {"labels_needed", "comparisons", "penalties", "test_metrics", "runs"}
    assert {f"{name}{suffix}" for name in wanted for suffix in (".csv", ".md")} <= tables_found
    assert len((results / "report" / "tables" / "runs.csv").read_text().splitlines()) == 16


def test_the_unfinished_run_is_on_the_page_with_its_command(page):
    assert "unfinished: epoch" in page
    (command,) = re.findall(r"python train.py [^<]*--split_seed=78[^<]*", page)
    assert "--strategy=margin" in command
    assert "--results_dir=" in command


def test_the_answer_is_in_the_terminal_too(results, capsys):
    assert main(["--results-dir", str(results), "--out", str(results / "second")]) == 0
    printed = capsys.readouterr().out
    assert "15 complete runs of 5 configurations" in printed
    assert "digits balanced_20: " in printed
    assert "how sure: 3 split seeds" in printed
    assert "second/index.html" in printed


def test_a_second_report_leaves_nothing_of_the_first_behind(tmp_path, capsys):
    write_cells(tmp_path, small(), ("margin", "random"), (12,), **DIGITS)
    write_cells(tmp_path, small(), ("margin", "random"), (12,), **DIGITS | {"variant": "balanced_10"})
    assert main(["--results-dir", str(tmp_path)]) == 0
    folder = tmp_path / "report" / "figures"
    assert (folder / "curves_digits_balanced_10.png").exists()
    (folder / "mine.png").write_text("kept")
    for cell in tmp_path.glob("*balanced_10*"):
        shutil.rmtree(cell)
    assert main(["--results-dir", str(tmp_path)]) == 0
    assert not (folder / "curves_digits_balanced_10.png").exists()
    assert (folder / "mine.png").exists()


def test_many_settings_are_a_table_first(tmp_path, capsys):
    for percent in (5, 10, 20, 40):
        write_cells(tmp_path, small(), ("stratified", "margin"), (12,), **DIGITS | {"variant": f"balanced_{percent}"})
    assert main(["--results-dir", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    table = page[page.index("In short") : page.index("The same in words")]
    assert all(f"digits balanced_{percent}" in table for percent in (5, 10, 20, 40))
    assert table.count("nothing to compare yet.") == 4


def test_nothing_complete_is_a_page_that_says_so(tmp_path, capsys):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("program: train.py\nmethod: grid\nparameters:\n  dataset: {value: digits}\n")
    (tmp_path / "results").mkdir()
    assert main([str(sweep), "--results-dir", str(tmp_path / "results")]) == 0
    assert "no complete run was found" in capsys.readouterr().out
    page = (tmp_path / "results" / "report" / "index.html").read_text()
    assert f"python -m sweeps.local {sweep} --results-dir {tmp_path}/results" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results-dir", "nowhere"], "no such folder"),
        (["--results-dir", "{}", "--target", "700"], "lies in (0, 100]"),
        (["--results-dir", "{}", "nofile.yaml"], "nofile.yaml"),
        (["--results-dir", "{}", "--from-wandb", "nonsense"], "not a project; write ENTITY/PROJECT"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, message):
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_many_strategies_stay_tellable():
    names = ["stratified", "random", "uncertainty", "margin", "typiclust", *(f"new {k}" for k in range(10))]
    found = looks(names)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(names)
    assert looks(["margin"])["margin"] == found["margin"]


def test_manifest_names_only_own_files(results, page):
    names = json.loads((results / "report" / ".files.json").read_text())
    assert "index.html" in names
    assert all(name == "index.html" or name.split("/")[0] in ("figures", "tables") for name in names)


def test_the_first_screen_answers_in_a_sentence_with_a_chart_and_what_it_rests_on(page):
    first = page[: page.index("In short")]
    answer = re.search(r'<p class="answer">(.*?)</p>', first).group(1)
    assert answer.startswith("digits balanced_20: use ")
    chart = re.search(r'<figure class="savings" role="img" aria-label="(.*?)">', first).group(1)
    assert chart.startswith("Labels saved to reach what random sampling reaches with")
    for strategy in ("margin", "typiclust", "uncertainty"):
        assert re.search(strategy + r" saves \d+ % \[\d+, \d+\]", chart)
    assert "Hollow" not in first
    for fact in ("15 complete runs of 5 configurations", "split seeds 12, 34, 56", "2,000 + 500 images of 10 classes"):
        assert fact in first
    assert "Run on 2023-11-14. By commit 000000000000; torch 2; device cpu." in first


def test_a_saving_that_the_verdict_does_not_prove_is_drawn_hollow_and_told_so(tmp_path):
    world = World(classes="abcdefghij", train=2000, test=500, noise=2.0, effects={"margin": 0.5, "uncertainty": 0.0})
    write_cells(tmp_path, world, ("random", "margin", "uncertainty"), (12, 34, 56), **DIGITS)
    assert main(["--results-dir", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "nothing can be told apart yet" in re.search(r'<p class="answer">(.*?)</p>', page).group(1)
    chart = page[page.index('<figure class="savings"') :].split("</figure>")[0]
    assert chart.count('<div class="saving open"') == chart.count('<div class="saving') > 0
    assert "(not proved)" in chart
    assert "Hollow: not proved." in chart


def test_several_settings_are_counted_in_one_sentence(tmp_path, capsys):
    for percent in (10, 20):
        write_cells(
            tmp_path, small(), ("random", "margin"), (12, 34, 56), **DIGITS | {"variant": f"balanced_{percent}"}
        )
    write_cells(tmp_path, small(), ("uncertainty", "margin"), (12, 34, 56), **DIGITS | {"variant": "balanced_5"})
    assert main(["--results-dir", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    answer = re.search(r'<p class="answer">(.*?)</p>', page).group(1)
    assert answer.startswith("Of 3 settings: choosing pays, one is best in 2 (highest mean: margin 2); strategies ")
    assert answer.endswith("random sampling not run in 1.")


FRAME = """<iframe width={} height=900 src="page.html" onload="
document.documentElement.dataset.wide = this.contentDocument.documentElement.scrollWidth"></iframe>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 768, 400])
def test_the_page_fits_its_window(page, tmp_path, width):
    """Measured from outside, by a page that shows it in a frame: its own policy lets no script run."""
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "frame.html").write_text(FRAME.format(width))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    done = subprocess.run(
        [*command, "--dump-dom", f"--user-data-dir={tmp_path}/profile", (tmp_path / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(re.search(r'data-wide="(\d+)"', done.stdout).group(1)) <= width


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_chromium_opens_it_without_a_word(page, results, tmp_path):
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [*command, (results / "report" / "index.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "In short" in done.stdout
    assert "CONSOLE" not in done.stderr


@pytest.mark.slow
def test_220_runs_take_under_30_seconds_and_a_gibibyte(tmp_path):
    write_study(tmp_path, World())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "sweeps.report", "--results-dir", str(tmp_path)], check=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of the processor: what it takes where nothing else runs.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30
    assert after.ru_maxrss < 2**20  # KiB
