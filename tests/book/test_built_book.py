"""The built book in headless Chromium, as a reader without a network sees it.

Needs a book (`make book`; another folder: LRSC_BOOK_HTML) and Debian's chromium and
chromium-driver: .ci/run installs them and runs `python -m pytest -n 2 -m book tests/book`.
"""

import functools
import http.server
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import axe_core_python
import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.book

ROOT = Path(__file__).parents[2]
HTML = Path(os.environ.get("LRSC_BOOK_HTML", ROOT / "_build" / "html"))
PHONE, DESKTOP = (390, 844), (1280, 900)
WAIT = 60  # seconds for a page to settle on a busy machine


def toc_names(entry) -> Iterator[str]:
    """Names of the pages in _toc.yml."""
    if isinstance(entry, list):
        for item in entry:
            yield from toc_names(item)
    elif isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        yield from toc_names(list(entry.values()))


PAGES = [f"{name}.html" for name in toc_names(yaml.safe_load((ROOT / "_toc.yml").read_text()))]


class Links(HTMLParser):
    """Collects a page's link targets and the ids that can be linked to."""

    def __init__(self, path: Path):
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.targets.append(values["href"])


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address at which the book is served."""
    if not (HTML / "index.html").is_file():
        pytest.fail(f"no book in {HTML}: run `make book` first")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    """Chromium that can reach nothing but this machine."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.fail(
            "chromium and chromedriver are needed: apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_page_load_timeout(WAIT)
    chrome.set_script_timeout(WAIT)
    chrome.get("about:blank")  # leaves the browser's own start page
    yield chrome
    chrome.quit()


def visit(browser: webdriver.Chrome, url: str, size: tuple[int, int] = DESKTOP) -> list[str]:
    """Open a page, wait until it is drawn, and return the addresses that it asked for."""
    browser.get_log("performance"), browser.get_log("browser")  # forget the page before
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
    metrics["mobile"] = size == PHONE
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(url)
    browser.execute_async_script(
        """
        const done = arguments[0];
        const math = window.MathJax && MathJax.startup ? MathJax.startup.promise : null;
        Promise.resolve(math).then(() => document.fonts.ready).then(() => setTimeout(done, 200));
        """
    )
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def test_the_book_has_its_pages():
    missing = [p for p in PAGES if not (HTML / p).is_file()]
    assert len(PAGES) >= 8
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_from_the_book_alone_and_is_drawn(browser, site, page):
    requests = visit(browser, site + page)
    outside = [url for url in requests if not url.startswith((site, "data:", "blob:"))]
    assert outside == []
    assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []

    assert len(browser.find_elements(By.CSS_SELECTOR, "article h1")) == 1
    raw_math = browser.execute_script(
        r"""
        const walker = document.createTreeWalker(
            document.querySelector("article"), NodeFilter.SHOW_TEXT);
        const found = [];
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const inside = node.parentElement.closest(
                "code, pre, script, style, textarea, svg, mjx-container");
            if (!inside && /\$|\\\(|\\\[|\{cite|\{eq/.test(node.textContent))
                found.push(node.textContent.trim());
        }
        return found;
        """
    )
    assert raw_math == []
    bad_math = "return document.querySelectorAll('mjx-merror, [data-mjx-error]').length"
    assert browser.execute_script(bad_math) == 0
    images = browser.execute_script(
        """
        return Array.from(document.querySelectorAll("article img")).map(
            i => [i.getAttribute("src").slice(0, 80), i.naturalWidth, (i.alt || "").trim()]);
        """
    )
    assert [image for image in images if not image[1] or not image[2]] == []


@pytest.mark.parametrize("page", [*PAGES, "search.html"])
def test_page_fits_a_phone(browser, site, page):
    visit(browser, site + page, PHONE)
    width = browser.execute_script("return document.scrollingElement.scrollWidth")
    assert width <= PHONE[0]
    sticking_out = browser.execute_script(
        """
        // what is too wide scrolls by itself; the article as a whole must not
        const scrolls = e => e.tagName !== "ARTICLE" && (
            ["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
        return Array.from(document.querySelectorAll("article *"))
            .filter(e => !e.closest("mjx-assistive-mml, .visually-hidden, [hidden]"))
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e))
            .map(e => e.outerHTML.slice(0, 120));
        """
    )
    assert sticking_out == []


def test_formulas_are_typeset(browser, site):
    visit(browser, site + "book/metrics.html")
    heights = browser.execute_script(
        """
        return Array.from(document.querySelectorAll("article mjx-container")).map(
            e => e.getBoundingClientRect().height);
        """
    )
    assert len(heights) >= 20
    assert min(heights) > 0
    faces = (
        "return Array.from(document.fonts).filter(f => f.status === 'loaded').map(f => f.family)"
    )
    assert any("MJX" in family for family in browser.execute_script(faces))


def test_icons_are_drawn(browser, site):
    visit(browser, site + PAGES[0])
    drawn = browser.execute_script(
        """
        return Array.from(document.querySelectorAll("svg.svg-inline--fa")).filter(
            e => e.getBoundingClientRect().width > 0 && e.querySelector("path")).length;
        """
    )
    assert drawn >= 3
    loaded = browser.execute_async_script(
        """
        const done = arguments[0];
        document.fonts.load('900 16px "Font Awesome 6 Free"').then(
            faces => done(faces.map(f => f.status)), error => done([String(error)]));
        """
    )
    assert loaded and set(loaded) == {"loaded"}


def test_search_finds_the_metric(browser, site):
    visit(browser, site + "search.html?q=prunability")
    links = "#search-results a"
    WebDriverWait(browser, WAIT).until(lambda b: b.find_elements(By.CSS_SELECTOR, links))
    found = [e.get_attribute("href") for e in browser.find_elements(By.CSS_SELECTOR, links)]
    assert any("book/metrics.html" in href for href in found)
    excerpts = "#search-results p.context"
    WebDriverWait(browser, WAIT).until(lambda b: b.find_elements(By.CSS_SELECTOR, excerpts))
    texts = [e.text for e in browser.find_elements(By.CSS_SELECTOR, excerpts)]
    assert not any(".ipynb" in text[:12] for text in texts)  # of a page's buttons


@pytest.mark.parametrize("page", [*PAGES, "index.html", "genindex.html"])
def test_links_inside_the_book_lead_somewhere(page):
    dead = []
    for target in Links(HTML / page).targets:
        url, fragment = urldefrag(urljoin(f"http://book/{page}", target))
        if not url.startswith("http://book/"):
            continue
        path = HTML / unquote(url.removeprefix("http://book/").split("?")[0] or "index.html")
        to_place = fragment and path.suffix == ".html"
        if not path.is_file() or (to_place and unquote(fragment) not in Links(path).ids):
            dead.append(target)
    assert dead == []


AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", [*PAGES, "search.html"])
def test_page_has_no_serious_barrier(browser, site, page, size):
    visit(browser, site + page, size)
    browser.execute_script(AXE)
    found = browser.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        axe.run(document, {resultTypes: ["violations"]}).then(
            result => done(result.violations), error => done([{impact: "critical", id: error}]));
        """
    )
    serious = [
        (v["id"], v["help"], [n["html"][:120] for n in v.get("nodes", [])[:3]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("page", PAGES)
def test_page_is_light_and_painted_soon_from_disk(browser, page):
    """Bytes of the page and its images; scripts, styles and fonts are shared or one page's tool."""
    (HTML / page).read_bytes()  # the disk's own cache is not what is measured
    visit(browser, (HTML / page).resolve().as_uri())
    shown = browser.execute_script(
        "return Array.from(document.images).map(i => i.currentSrc).filter(u => u)"
    )
    files = {HTML / page} | {Path(unquote(u[len("file://") :])) for u in shown if u[:5] == "file:"}
    if page == "book/explore.html":
        files |= set((HTML / "_static" / "bokeh").glob("*.js"))
    assert sum(path.stat().st_size for path in files) < 3e6
    paint = browser.execute_script(
        "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"
    )
    assert paint and paint[0] < 1500 * slowness()


@functools.cache
def slowness() -> float:
    """How much longer a fixed piece of work takes in time than in computing: other work beside."""
    clock, cpu = time.perf_counter(), time.process_time()
    sum(i * i for i in range(3_000_000))
    return max(1.0, (time.perf_counter() - clock) / (time.process_time() - cpu))


def canvas(browser) -> str:
    """What the explore page's figure looks like, as data."""
    return browser.execute_script(
        """
        const inside = root => [...root.querySelectorAll("*")].flatMap(
            e => [e, ...(e.shadowRoot ? inside(e.shadowRoot) : [])]);
        return inside(document.getElementById("explore-figure"))
            .filter(e => e.tagName === "CANVAS" && e.width).map(e => e.toDataURL()).join();
        """
    )


@pytest.mark.parametrize("field", ["dataset", "metric", "scale"])
def test_the_explore_page_changes_its_figure(browser, site, field):
    visit(browser, site + "book/explore.html")
    WebDriverWait(browser, WAIT).until(canvas)
    time.sleep(0.5)
    before, said = canvas(browser), browser.find_element(By.ID, "explore-summary").text
    select = browser.find_element(By.CSS_SELECTOR, f"#explore-form select[name={field}]")
    select.send_keys(Keys.ARROW_DOWN)  # by keyboard alone
    WebDriverWait(browser, WAIT).until(lambda b: canvas(b) not in ("", before))
    after = browser.find_element(By.ID, "explore-summary").text
    assert (after != said) == (field != "scale")
    assert f"{field}=" in browser.current_url
    rows = browser.find_elements(By.CSS_SELECTOR, "#explore-table tbody tr")
    assert len(rows) >= 3


def test_the_explore_page_keeps_named_curves_and_its_address_brings_them_back(browser, site):
    visit(browser, site + "book/explore.html")
    WebDriverWait(browser, WAIT).until(canvas)

    def names() -> list[str]:
        return [e.text for e in browser.find_elements(By.CSS_SELECTOR, "#explore-curves li")]

    browser.find_element(By.ID, "explore-keep").send_keys(Keys.ENTER)
    select = browser.find_element(By.CSS_SELECTOR, "#explore-form select[name=dataset]")
    select.send_keys(Keys.ARROW_DOWN)
    WebDriverWait(browser, WAIT).until(lambda b: len(names()) == 2)
    assert all("training samples" in name and "seed" in name for name in names())
    before, address = names(), browser.current_url
    visit(browser, site + "book/silent.html")
    visit(browser, address)
    WebDriverWait(browser, WAIT).until(lambda b: names() == before)
    browser.find_element(By.CSS_SELECTOR, "#explore-curves button").send_keys(Keys.ENTER)
    WebDriverWait(browser, WAIT).until(lambda b: len(names()) == 1)
    left, was = (name.split(maxsplit=1)[1] for name in (names()[0], before[1]))
    assert left == was  # with another marker before it


def test_the_explore_page_follows_the_theme(browser, site):
    visit(browser, site + "book/explore.html")
    WebDriverWait(browser, WAIT).until(canvas)
    seen = []
    for theme in ("light", "dark"):
        browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        WebDriverWait(browser, WAIT).until(lambda b: canvas(b) not in ("", *seen))
        seen.append(canvas(browser))
    ground = browser.execute_script(
        "return getComputedStyle(document.getElementById('explore-figure')).backgroundColor"
    )
    assert ground == "rgba(0, 0, 0, 0)"  # no white card on a dark page


def test_the_scorecard_sorts_and_filters_by_keyboard(browser, site):
    visit(browser, site + "book/scorecard.html")
    rows = '.scorecard:has([aria-label="Rows of tables S1 and S2"])'
    card = browser.find_element(By.CSS_SELECTOR, rows)
    shown = "tbody tr:not([hidden])"
    head, *_ = card.find_elements(By.CSS_SELECTOR, "thead th")

    def firsts() -> list[str]:
        return [e.text for e in card.find_elements(By.CSS_SELECTOR, f"{shown} th")]

    assert len(firsts()) == 48
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    rising = firsts()
    assert rising[0].startswith("CelebA") and rising[-1].startswith("Parity")
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert head.get_attribute("aria-sort") == "descending" and firsts()[0] == rising[-1]

    card.find_element(By.NAME, "text").send_keys("moon-star")
    assert len(firsts()) == 1
    assert card.find_element(By.CSS_SELECTOR, "[role=status]").text == "1 of 48 shown"
    card.find_element(By.NAME, "text").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    card.find_element(By.NAME, "kind").send_keys("measured")
    of_status = {e.get_attribute("data-kind") for e in card.find_elements(By.CSS_SELECTOR, shown)}
    assert of_status == {"measured"}


def test_a_figure_is_enlarged_and_closed_by_keyboard(browser, site):
    visit(browser, site + "notebooks/synthetic.html")
    (link, *_) = browser.find_elements(By.CSS_SELECTOR, "article a.enlarge")
    link.send_keys(Keys.ENTER)
    dialog = browser.find_element(By.CSS_SELECTOR, "dialog.enlarged")
    assert dialog.get_attribute("open") is not None
    large = dialog.find_element(By.TAG_NAME, "img")
    small = link.find_element(By.TAG_NAME, "img")
    assert large.size["width"] > 1.3 * small.size["width"]
    assert large.get_attribute("alt") == small.get_attribute("alt") != ""
    webdriver.ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert dialog.get_attribute("open") is None
    assert browser.switch_to.active_element == link


def test_drawn_figures_take_the_dark_ground_and_pictures_stay_as_they_are(browser, site):
    visit(browser, site + "notebooks/standard_classification.html")
    drawn, picture, ground, dialog = browser.execute_script(
        """
        document.documentElement.dataset.theme = "dark";
        const of = (query, name) => getComputedStyle(document.querySelector(query))[name];
        return [of(".shown-figure img.drawn", "filter"),
            of(".shown-figure img:not(.drawn)", "filter"),
            of(".text_html:has(.shown-figure)", "backgroundColor"),
            of("dialog.enlarged", "backgroundColor")];
        """
    )
    assert "invert(1)" in drawn and picture == "none"
    assert ground == "rgba(0, 0, 0, 0)" and dialog != "rgb(255, 255, 255)"


def test_figures_are_numbered_by_chapter_and_all_in_the_index():
    text = (HTML / "book" / "figure_index.html").read_text(encoding="utf-8")
    listed = re.findall(r"\.\./([\w/]+\.html)#(figure-[\w-]+)\">Figure (\d+)\.(\d+)</a>", text)
    assert len(listed) >= 10
    for page, anchor, chapter, place in listed:
        shown = (HTML / page).read_text(encoding="utf-8")
        assert f'id="{anchor}"' in shown and f"<strong>Figure {chapter}.{place}.</strong>" in shown
        if chapter != "0":  # the front page has no number
            assert f'<h1><span class="section-number">{chapter}. </span>' in shown
    places: dict = {}
    for _, _, chapter, place in listed:
        places.setdefault(chapter, []).append(int(place))
    assert all(found == list(range(1, len(found) + 1)) for found in places.values())


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("notebooks/")])
def test_a_section_says_how_to_re_run_it_and_gives_its_files(page):
    text = (HTML / page).read_text(encoding="utf-8").partition('id="re-run-this-page"')[2]
    name = Path(page).stem
    assert "papermill" in text and f"notebooks/{name}.ipynb" in text
    assert f'/{name}.ipynb"' in text
    named = re.search(r"book/results/\w+\.nc", (HTML / page).read_text(encoding="utf-8"))
    assert not named or ('.nc"' in text and '.csv"' in text)


def test_the_book_says_how_it_was_made():
    text = (HTML / "book" / "made.html").read_text(encoding="utf-8")
    for page in PAGES:
        notebook = HTML / page
        if 'class="cell ' in notebook.read_text(encoding="utf-8"):
            assert f'{Path(page).name}"' in text, page
    assert "jupyter-book" in text and "Processor" in text


def test_a_glossary_term_leads_to_its_entry(browser, site):
    visit(browser, site + "book/introduction.html")
    (link, *_) = browser.find_elements(By.CSS_SELECTOR, "article a[href*='glossary.html#term-']")
    fragment = urldefrag(link.get_attribute("href"))[1]
    assert fragment in Links(HTML / "book" / "glossary.html").ids
