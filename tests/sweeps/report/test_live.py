"""The live page in a browser: what the reader chooses is what all charts show, and nothing is asked of a network."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from browser import browser, needs_browser
from report_results import CIFAR, World, write_cells, write_pool_map, write_study

from al.records import RoundRecord
from al.tracking.plots import pick_sheet
from sweeps.report.__main__ import main
from sweeps.report.charts import registry

pytestmark = needs_browser
HOSTILE = ("<u>under</u>", '" onload="x', "a&b", "cat|dog", "</script>")
RUNS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "initial_min": 20}
STRATEGIES = ("stratified", "random", "margin", "typiclust")
SEEDS = (12, 34, 56)


def make_report(root: Path) -> Path:
    assert main(["--results-dir", str(root)]) == 0
    return root / "report" / "index.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("live")
    world = World(HOSTILE, train=1000, test=500, effects={"margin": 3.0, "typiclust": -2.0})
    for variant in ("balanced_20", "balanced_40"):
        write_cells(root, world, STRATEGIES, SEEDS, variant=variant, **RUNS)
    write_pool_map(root, world)
    return make_report(root)


@pytest.fixture(scope="module")
def window():
    with browser() as found:
        yield found


CURVES = 'figure[data-chart="curves"]'


def lines(window) -> int:
    """Of means, or of the seeds that were asked for."""
    found = f"{CURVES} g[aria-label=line]:not([aria-description]) path"
    return window.run(f"return document.querySelectorAll('{found}').length")


def choose(window, name: str, value: str) -> None:
    script = f"const found = document.querySelector('#controls [name={name}]'); found.value = arguments[0];"
    script += "found.dispatchEvent(new Event(found.tagName === 'INPUT' ? 'input' : 'change'))"
    window.run(f"const [value] = [{json.dumps(value)}]; {script.replace('arguments[0]', 'value')}")


def settle(window) -> None:
    """Charts that are not in sight are drawn a moment after those that are."""
    window.run("return report.drawn")


def told(window, chart: str) -> str:
    settle(window)
    return window.run(f"return document.querySelector('figure[data-chart={chart}] svg[role=img]').ariaLabel")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 400])
def test_fits_says_nothing_and_asks_for_nothing(window, page, width, dark):
    window.open(page, width, dark=dark)
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.console() == []
    assert window.requests() == [page.as_uri()]
    drawn = window.run(
        "return [...document.querySelectorAll('figure.live:has(svg[role=img])')].map((f) => f.dataset.chart)"
    )
    assert set(drawn) == set(registry.CHARTS)
    background = window.run("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_every_chart_has_its_numbers_in_words(window, page):
    window.open(page)
    assert told(window, "curves") == "Test accuracy (%) by labels for stratified, random, margin, typiclust"
    assert re.search(r"margin − random sampling 3\.\d \[2\.\d, 3\.\d\] p < 0\.001", told(window, "differences"))
    assert re.search(r"random \d+", told(window, "needs"))
    assert "expected calibration error stratified 0.080; random 0.080" in told(window, "calibration")


def test_on_a_phone_the_charts_come_soon_and_what_the_answer_rests_on_is_a_tap_away(window, page):
    window.open(page, 400, 844)
    assert window.run("return document.getElementById('controls').getBoundingClientRect().top") < 1.3 * 844
    shown = "return [...document.querySelectorAll('article li')].map((line) => line.checkVisibility())"
    assert not any(window.run(shown))
    window.run("document.querySelector('article summary').click()")
    assert any(window.run(shown))
    window.open(page, 1280)
    assert all(window.run(shown))


def test_on_paper_everything_is_open_and_nothing_is_there_to_be_clicked(window, page):
    window.open(page, 720)
    window.run("dispatchEvent(new Event('beforeprint'))")
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        visible = "return [...document.querySelectorAll('{}')].filter((found) => found.checkVisibility()).length"
        assert window.run(visible.format("input, button[data-csv], select[name=axis]")) == 0
        assert window.run(visible.format("article li")) > 0
        assert window.run(visible.format(".chip")) == len(STRATEGIES), "the legend of all charts"
        assert window.run("return getComputedStyle(document.querySelector('.frame select')).appearance") == "none"
        wide = "[...document.querySelectorAll('table, svg, img')].map((found) => found.getBoundingClientRect().right)"
        assert max(window.run(f"return {wide}")) <= 720, "nothing is cut off at the edge of the paper"
        printed = base64.b64decode(window.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
        assert printed.startswith(b"%PDF")
    finally:
        window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_column_that_says_the_same_in_every_row_is_on_the_page_only_where_there_are_others(tmp_path, window, page):
    hidden = "return [...document.querySelectorAll('#needs td:first-child')]"
    hidden += ".filter((cell) => getComputedStyle(cell).display === 'none')"
    window.open(page)
    assert window.run(f"{hidden}.length") == 0
    write_cells(tmp_path, World(HOSTILE, train=1000, test=500), STRATEGIES, SEEDS, variant="balanced_20", **RUNS)
    window.open(make_report(tmp_path))
    assert set(window.run(f"{hidden}.map((cell) => cell.textContent)")) == {"digits balanced_20"}
    header = window.run("return document.querySelector('#needs th').textContent")
    assert header == "setting", "it stays in what is saved as CSV"


class TestChoosing:
    def test_a_strategy_switched_off_leaves_all_charts(self, window, page):
        window.open(page)
        assert lines(window) == 3
        window.run("document.querySelector('input[aria-label=\"show margin\"]').click()")
        assert lines(window) == 2
        for chart in ("curves", "differences", "needs", "phases"):
            assert "margin" not in told(window, chart)
            assert "typiclust" in told(window, chart)

    def test_seeds_are_a_mean_or_a_line_each_or_one(self, window, page):
        window.open(page)
        thin = f"return document.querySelectorAll('{CURVES} g[aria-description=seed] path').length"
        assert (lines(window), window.run(thin)) == (3, 3 * len(SEEDS))  # too few for a band
        assert window.run(f"return document.querySelectorAll('{CURVES} g[aria-label=area]').length") == 0
        bottoms = "[...document.querySelectorAll('{}')].map((found) => found.getBoundingClientRect().bottom)"
        lowest = max(window.run(f"return {bottoms.format(f'{CURVES} g[aria-description=seed] path')}"))
        axis = max(window.run(f"return {bottoms.format(f'{CURVES} g[aria-label^=x-grid]')}"))
        assert lowest <= axis + 1, "every seed lies within the axes"
        choose(window, "seeds", "each")
        assert lines(window) == 3 * len(SEEDS)
        choose(window, "seeds", "34")
        assert lines(window) == 3

    def test_setting_measure_and_class(self, window, page):
        window.open(page)
        before = window.run(f"return document.querySelector('{CURVES} g[aria-label=line] path').getAttribute('d')")
        choose(window, "setting", "1")
        after = window.run(f"return document.querySelector('{CURVES} g[aria-label=line] path').getAttribute('d')")
        assert before != after
        choose(window, "measure", f"recall/{HOSTILE[0]}")
        assert told(window, "curves").startswith(f"Recall of {HOSTILE[0]} (%) by labels")
        assert window.run("return document.querySelectorAll('u').length") == 0

    def test_money_has_prices_that_move_the_points(self, window, page):
        window.open(page)
        prices = "const [prices] = document.querySelectorAll('.prices');"
        assert window.run(f"{prices} return prices.hidden")
        choose(window, "axis", "money")
        assert not window.run(f"{prices} return prices.hidden")
        ticks = f"""return [...document.querySelectorAll(
            '{CURVES} g[aria-label="x-axis tick label"] text')].at(-1).textContent"""
        choose(window, "labelPrice", "1")
        cheap = float(window.run(ticks))
        choose(window, "labelPrice", "100")
        dear = window.run(ticks)
        assert float(dear.replace("k", "e3").replace(",", "")) > 20 * cheap

    def test_a_click_on_a_line_follows_its_strategy_everywhere(self, window, page):
        from selenium.webdriver import ActionChains

        window.open(page)
        drawn = window.driver.find_element("css selector", f"{CURVES} svg[role=img]")
        dx, dy = window.run(
            f"const [random, margin] = [...document.querySelectorAll('{CURVES} g[aria-label=dot]')].slice(1);"
            f"const inside = document.querySelector('{CURVES} svg[role=img]').getBoundingClientRect();"
            "const dot = margin.children[Math.floor(margin.children.length / 2)].getBoundingClientRect();"
            "const middle = (box) => [box.x + box.width / 2, box.y + box.height / 2];"
            "return middle(dot).map((value, k) => value - middle(inside)[k])"
        )
        window.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", drawn)
        moved = ActionChains(window.driver).move_to_element_with_offset(drawn, round(dx), round(dy))
        moved.perform()
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        tip = window.run(f"return {frame}.then(() => document.querySelector('{CURVES} g[aria-label=tip]').textContent)")
        assert re.search(r"margin, mean.*\d+\.\d \[\d+\.\d, \d+\.\d\].*\d+ labels, \d+ s", tip)
        moved.click().perform()
        pressed = "return [...document.querySelectorAll('button[aria-pressed=true]')].map((found) => found.textContent)"
        assert window.run(pressed) == ["margin"]
        settle(window)
        faded = "return [...document.querySelectorAll('figure[data-chart={}] [stroke-opacity=\"0.15\"]')].length > 0"
        assert all(window.run(faded.format(f'"{chart}"')) for chart in ("curves", "differences", "needs"))
        rows = window.run("return [...document.querySelectorAll('tr.followed')].map((row) => row.textContent)")
        assert rows
        assert all("margin" in row for row in rows)
        moved.click().perform()
        assert window.run(pressed) == []


def test_without_scripts_the_pictures_are_there(window, page):
    window.open(page, scripts=False)
    shown = '[...document.querySelectorAll(".static img, #controls, figure.live")].map((f) => f.checkVisibility())'
    seen = window.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": shown, "returnByValue": True})
    assert seen["result"]["value"].count(True) == 4  # curves of two settings, calibration, time by phase
    window.open(page)
    assert window.run(f"return {shown}").count(True) == 1 + len(registry.CHARTS)


def test_a_table_is_saved_as_csv_with_all_its_digits(window, page):
    window.open(page)
    saved = window.run(
        "return new Promise((done) => { URL.createObjectURL = (blob) => (blob.text().then(done), 'data:,');"
        " document.querySelector('button[data-csv=runs]').click(); })"
    )
    assert saved == (page.parent / "tables" / "runs.csv").read_text()


def test_the_libraries_are_those_that_their_authors_publish():
    listed = (registry.VENDOR / "README.md").read_text()
    for name in registry.LIBRARIES:
        assert hashlib.sha256((registry.VENDOR / name).read_bytes()).hexdigest() in listed


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_fault(window, page, tmp_path, dark):
    """Rules of WCAG by axe-core, which npm has."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    packed = subprocess.run(["npm", "pack", "axe-core@4"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if packed.returncode:
        pytest.skip("npm has no network")
    shutil.unpack_archive(next(tmp_path.glob("axe-core-*.tgz")), tmp_path)
    window.open(page, dark=dark)
    window.driver.execute_script((tmp_path / "package" / "axe.min.js").read_text())
    found = window.run("return axe.run().then((found) => found.violations)")
    serious = {
        fault["id"]: [node["html"] for node in fault["nodes"]][:3]
        for fault in found
        if fault["impact"] in ("serious", "critical")
    }
    assert serious == {}


def draw_sheets(folder: Path) -> None:
    """The sheets of a run, of images that no format makes small: a noisy one each."""
    rng = np.random.default_rng(len(folder.parent.name))
    for line in (folder / "rounds.jsonl").read_text().splitlines()[1:]:
        query = RoundRecord.model_validate_json(line)
        images = rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
        shown = query.model_copy(update={"rows": query.rows[:40]})
        pick_sheet(images[: len(shown.rows)], shown, list(CIFAR), folder / f"plots/picks/round_{query.round:03d}.png")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_page_of_220_runs_is_small_and_quick(window, tmp_path):
    write_study(tmp_path, World())
    write_pool_map(tmp_path, World())
    for folder in tmp_path.glob("*/split_seed_12"):  # the seed whose picks are shown
        draw_sheets(folder)
    page = make_report(tmp_path)
    assert page.stat().st_size < 3e6
    window.open(page)
    paint = window.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    toggle = window.run(
        "document.getElementById('controls').scrollIntoView();"
        "const box = document.querySelectorAll('#controls input[type=checkbox]')[1]; const begun = performance.now();"
        "box.click(); document.body.offsetHeight; return performance.now() - begun"
    )
    print(f"{page.stat().st_size / 1e6:.2f} MB, first paint {paint:.0f} ms, a toggle {toggle:.0f} ms")
    assert paint < 1000
    assert toggle < 100
