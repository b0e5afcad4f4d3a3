"""Reports in Chromium: on a desktop, on a phone and on paper; and what axe-core says of them."""

import importlib.util
from pathlib import Path

import pytest
from chromium import Chromium, executable
from report_pages import NASTY, write_pair

from agnoreg.evaluate.evaluation import evaluate_pair
from agnoreg.evaluate.report import Listed, ReportFolder, report_html
from agnoreg.evaluate.report.folder import INDEX

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("chromium"),
    pytest.mark.skipif(executable() is None, reason="Chromium is not installed: apt-get install chromium."),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of a pair and that of all."""
    there = tmp_path_factory.mktemp("browser")
    names, folder = (NASTY, "second"), ReportFolder(there)
    for index, name in enumerate(names):
        (there / str(index)).mkdir()
        pair = write_pair(there / str(index), seed=index)
        folder.write(name, report_html(evaluate_pair(**pair), pair, name, INDEX), "")
    index = folder.write_index([Listed(name) for name in names], f"Pairs {NASTY}")
    pair = next(page for page in there.glob("*.html") if page.name not in ("index.html", "second.html"))
    return {"pair": pair, "group": index}


@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        yield browser


def open_all(browser, page, width):
    browser.open(page, width)
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["pair", "group"])
def test_a_page_opens_without_a_complaint_and_fits_the_window(name, width, pages, browser):
    open_all(browser, pages[name], width)
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    # On a phone only tables scroll, within themselves.
    wide = "[...document.querySelectorAll('main *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1"
    assert browser.run(f"{wide} && !one.closest('.scroll, svg')).map(one => one.outerHTML.slice(0, 200))") == []
    assert NASTY in browser.run("document.body.innerText")


@pytest.mark.parametrize("name", ["pair", "group"])
def test_a_page_prints(name, pages, browser, tmp_path):
    browser.open(pages[name], 1280)
    printed = browser.print()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type /Page/") > 0
    browser.ask("Emulation.setEmulatedMedia", media="print")
    hidden = browser.run(
        "[...document.querySelectorAll('.one')].filter(one => getComputedStyle(one).visibility !== 'visible').length"
    )
    browser.ask("Emulation.setEmulatedMedia", media="")
    assert hidden == 0


def test_buttons_say_which_picture_is_seen_without_a_script(pages, browser):
    browser.open(pages["pair"], 1280)
    for name in ("fixed", "moved", "before"):
        browser.run(f"document.querySelector('label[for=show-{name}]').click()")
        seen = "[...document.querySelectorAll('.one')].filter(one => getComputedStyle(one).visibility === 'visible')"
        assert browser.run(f"[...new Set({seen}.map(one => one.classList[1]))]") == [name]
    browser.run("document.querySelector('label[for=show-auto]').click()")
    assert browser.run("getComputedStyle(document.querySelector('.one.moved')).animationName") == "blink"


def test_the_table_of_all_pairs_is_sorted_by_a_click(pages, browser):
    browser.open(pages["group"], 1280)
    cells = "[...document.querySelectorAll('#pairs ~ .scroll tbody tr')].map(row => row.cells[1].dataset.value * 1)"
    browser.run("document.querySelectorAll('#pairs ~ .scroll thead button')[1].click()")
    rising = browser.run(cells)
    browser.run("document.querySelectorAll('#pairs ~ .scroll thead button')[1].click()")
    assert rising == sorted(rising)
    assert browser.run(cells) == rising[::-1]


def axe():
    """Return axe-core's script, None where no package is installed that has it."""
    found = importlib.util.find_spec("axe_core_python")
    return None if found is None or found.origin is None else Path(found.origin).with_name("axe.min.js")


@pytest.mark.skipif(axe() is None, reason="axe-core is not installed: pip install axe-core-python.")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["pair", "group"])
def test_axe_finds_nothing_serious(name, width, pages, browser):
    open_all(browser, pages[name], width)
    browser.run(axe().read_text("utf-8") + "; 0")
    nodes = "one.nodes.map(node => node.html.slice(0, 150)).slice(0, 3)"
    found = browser.run(f"axe.run().then(all => all.violations.map(one => [one.impact, one.id, {nodes}]))")
    assert [one for one in found if one[0] in ("serious", "critical")] == []
