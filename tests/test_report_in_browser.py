"""The report in a real browser: accessible, light and dark, on a phone, in print, and with the keyboard.

Headless Chromium comes from the distribution; without it these tests are skipped. axe-core finds faults of accessibility.
"""

import importlib.util
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from PIL import Image
from test_report import FUSION, IMAGING, YEARS, framed, manifest, rate_row, sample

from ebi_spark.report import build_report
from ebi_spark.tables import schemas

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
ROOT = Path(__file__).parents[1]
BOARD = "NHS Eastmere and Dunmere Integrated Care Board"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with two periods of each policy in every board, so that an area has a line of its own. England also has windows of
    fusion that boards do not have."""
    tables = sample()
    rate = tables["rate"]
    earlier = rate.query(f"policy_id == '{IMAGING}' and area_type == 'icb'").copy()
    earlier[["financial_year", "period"]] = YEARS[-2]
    window = rate.query("period_years == 3").copy()
    window[["financial_year", "period"]] = YEARS[0], "2017-18..2019-20"
    between = rate.query("period_years == 3 and area_type == 'england'").copy()
    between[["financial_year", "period"]] = YEARS[-2], "2019-20..2021-22"
    named = framed(
        [rate_row(FUSION, YEARS[-1], "region", "Y1", "East", activity=400, population=8_000_000),
         rate_row(FUSION, YEARS[-1], "region", "Y2", "West", activity=20, population=9_000_000)],
        schemas.RATE,
    )  # fmt: skip
    tables["rate"] = pd.concat([rate, earlier, window, between, named], ignore_index=True)
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(build_report(tables, release=manifest(data_kind="synthetic")), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_page_asks_for_nothing_and_its_policy_refuses_nothing_of_its_own(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert browser.requested() == [path.as_uri()] and browser.problems() == []
    # The policy is in force: it refuses any other script, style and picture.
    browser.run(
        "document.body.insertAdjacentHTML('beforeend', '<p id=x style=\"color: red\" onclick=\"\">x</p><img src=y.png>')"
    )
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("getComputedStyle(document.getElementById('x')).color") != "rgb(255, 0, 0)"
    refused = " ".join(browser.problems())
    assert "style" in refused and "y.png" in refused


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_is_accessible(browser: Browser, path: Path, width: int, dark: bool) -> None:
    browser.open(path, width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    browser.run(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8") + "; 0")
    found: list[dict[str, Any]] = browser.run(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
    )
    assert [(each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"]) for each in found] == []


@pytest.mark.parametrize("dark", [False, True])
def test_marks_of_charts_have_a_contrast_of_at_least_three(browser: Browser, path: Path, dark: bool) -> None:
    browser.open(path, dark=dark)
    names = ("usual", "concern", "improvement", "ink", "left", "link")
    colours = browser.run(
        f"Object.fromEntries({json.dumps([*names, 'paper', 'wash'])}.map(name => [name, "
        "getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()]))"
    )
    ratios = {
        (name, ground): contrast(colours[name], colours[ground]) for name in names for ground in ("paper", "wash")
    }
    assert min(ratios.values()) >= 3, ratios
    # The marks have these colours, also in charts.
    used = browser.run(
        "[...document.querySelectorAll('figure use[data-area]')].map(mark => getComputedStyle(mark).fill)"
    )
    assert {rgb(colours[name]) for name in ("usual", "concern", "improvement")} >= {*used} and len({*used}) == 3


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_phone_does_not_scroll_sideways(browser: Browser, path: Path) -> None:
    browser.open(path, width=390, height=844)
    browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.run("document.querySelector('.figure strong').getBoundingClientRect().height") > 30
    browser.type("#find", "eastmere and dunm")
    assert browser.run("document.querySelectorAll('.own:not([hidden]) svg').length") == 4
    assert browser.run("document.documentElement.scrollWidth") == 390


def texts_of_charts(browser: Browser) -> list[str]:
    """All texts of charts. None is cut off, and none covers another one."""
    browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    charts = browser.run(
        "[...document.querySelectorAll('figure svg')].map(svg => [svg, ...svg.querySelectorAll('text')].map(e => { const box = "
        "e.getBoundingClientRect(); return [e.tagName === 'svg' ? '' : e.textContent, box.left, box.top, box.right, box.bottom] }))"
    )
    for (_, *frame), *texts in charts:
        for number, (words, left, top, right, bottom) in enumerate(texts):
            inside = (
                frame[0] <= left + 0.5
                and frame[1] <= top + 0.5
                and right - 0.5 <= frame[2]
                and bottom - 0.5 <= frame[3]
            )
            assert inside, words
            for other, left_of, top_of, right_of, bottom_of in texts[number + 1 :]:
                # Boxes of text have some space above and below.
                apart = right <= left_of or right_of <= left or bottom <= top_of + 4 or bottom_of <= top + 4
                assert apart, (words, other)
    return [words for _, *texts in charts for words, *_ in texts]


def test_texts_of_charts_are_whole_and_apart(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert {"1m", "500k", "mean 5,116"} <= {*texts_of_charts(browser)}


def test_names_of_readings_and_revisions_fit_beside_their_lines(browser: Browser, tmp_path: Path) -> None:
    years = [f"{year}-{year - 1999}" for year in range(2019, 2025)]
    counts = {"as_published": 52_000, "as_intended": 58_000, "guidance_coded": 47_000}
    rates = [
        rate_row(IMAGING, year, "england", "E92", "England", activity=count) | {"reading": reading}
        for year in years
        for reading, count in counts.items()
    ]
    rates += [rate_row(FUSION, year, "england", "E92", "England", activity=800) for year in years]
    rates.append(rate_row(FUSION, years[-1], "england", "E92", "England", activity=780_000) | {"revision": "2024-09"})
    file = tmp_path / "report.html"
    file.write_text(
        build_report(sample() | {"rate": framed(rates, schemas.RATE)}, release=manifest()), encoding="utf-8"
    )
    browser.open(file)
    texts = texts_of_charts(browser)
    assert {"guidance coded 80.7", "as published 89.3", "99.6", "revision 2022-08 1.4", "revision 2024-09 1,339.4"} <= {
        *texts
    }


def test_names_in_funnel_plots_cover_neither_each_other_nor_an_outlier(browser: Browser, path: Path) -> None:
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    usual = browser.run("getComputedStyle(document.documentElement).getPropertyValue('--usual').trim()")
    plots = browser.run(
        "[...document.querySelectorAll('figure svg[aria-label*=\"funnel plot\"]')].map(svg => [...svg.querySelectorAll("
        "'text, use[data-area]')].map(e => { const box = e.getBoundingClientRect(); return [e.tagName, e.textContent, "
        "getComputedStyle(e).fill, box.left, box.top, box.right, box.bottom] }))"
    )
    named = []
    for parts in plots:
        names = [(words, box) for tag, words, _, *box in parts if tag == "text" and " and " in words]
        outliers = [(words, box) for tag, words, fill, *box in parts if tag == "use" and fill != rgb(usual)]
        named.append((len(names), len(outliers)))
        for number, (name, (left, top, right, bottom)) in enumerate(names):
            for other, (left_of, top_of, right_of, bottom_of) in (*names[number + 1 :], *outliers):
                # Boxes of text have some space above and below.
                apart = right <= left_of or right_of <= left or bottom <= top_of + 3 or bottom_of <= top + 3
                assert apart, (name, other)
    # As many as there is room for, six at most.
    assert [numbers for numbers in named if numbers[1] > 2] == [(6, 23), (3, 15)]


def test_no_table_beside_a_chart_is_cut_off(browser: Browser, path: Path) -> None:
    browser.open(path)
    boxes = browser.run(
        "[...document.querySelectorAll('.pair .scroll')].map(box => [box.scrollWidth, box.clientWidth])"
    )
    assert boxes and all(inner <= outer for inner, outer in boxes)


def test_the_picture_of_the_readme_can_be_drawn(path: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("picture", ROOT / "docs" / "picture.py")
    assert spec and spec.loader
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    picture.draw(path, tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as drawn, Image.open(ROOT / "docs" / "report.png") as shipped:
        assert drawn.size == shipped.size == picture.SIZE
        # The warning that the data are made up is at the top, on a bar in the colour of a concern.
        assert drawn.convert("RGB").getpixel((10, 2)) == pytest.approx((0xB3, 0x50, 0), abs=4)


def test_the_summary_prints_on_at_most_six_pages_and_the_whole_report_on_more(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert 1 <= browser.pages() <= 6
    browser.run("document.documentElement.classList.add('whole')")
    assert browser.pages() > 6


def test_a_name_that_is_typed_shows_its_area_in_funnels_tables_and_a_line_of_its_own(
    browser: Browser, path: Path
) -> None:
    browser.open(path)
    assert browser.run("document.querySelectorAll('#find-areas option').length") == 44
    browser.type("#find", "eastmere and dunm")
    assert browser.run("document.getElementById('found').textContent") == f"Showing {BOARD}"
    chosen = browser.run(
        "[...document.querySelectorAll('.chosen')].map(e => [e.tagName.toLowerCase(), e.dataset.area])"
    )
    assert {place for place, _ in chosen} == {"use", "tr"} and {area for _, area in chosen} == {"icb/Q09"}
    panels = browser.run(
        "[...document.querySelectorAll('.own:not([hidden])')].map(e => [e.textContent, e.querySelectorAll('circle').length])"
    )
    # In the summary and in the section of each policy, each with two periods.
    assert [marks for _, marks in panels] == [2] * 4
    assert all(text.startswith(f"{BOARD}. ") for text, _ in panels) and browser.problems() == []
    assert texts_of_lines(browser) == [["2021-22", "2022-23"], ["2017-18 to", "2019-20", "2020-21 to", "2022-23"]] * 2
    # The row is in a view that is open, and in sight in the box that it scrolls in.
    shown = "(row => { const box = row.closest('.long').getBoundingClientRect(), at = row.getBoundingClientRect(); "
    shown += "return row.closest('details').open && at.top >= box.top && at.bottom <= box.bottom })"
    assert browser.run(f"[...document.querySelectorAll('tr.chosen')].every({shown})")
    browser.type("#find", "no such place")
    assert browser.run("document.getElementById('found').textContent") == "No area matches"
    assert browser.run("document.querySelectorAll('.chosen').length") == 0


def texts_of_lines(browser: Browser) -> list[list[str]]:
    """The periods of each line that an area has of its own. No text of it covers another or is cut off."""
    drawn = browser.run(
        "[...document.querySelectorAll('.own:not([hidden]) svg')].map(svg => [svg, ...svg.querySelectorAll('text')].map(e => "
        "{ const box = e.getBoundingClientRect(); return [e.tagName, e.textContent, box.left, box.top, box.right, box.bottom] }))"
    )
    for (_, _, *frame), *texts in drawn:
        for number, (_, words, left, top, right, bottom) in enumerate(texts):
            assert frame[0] <= left and right <= frame[2] and top >= frame[1] and bottom <= frame[3] + 1, words
            for _, other, left_of, top_of, right_of, bottom_of in texts[number + 1 :]:
                # Boxes of text have some space above and below.
                apart = right <= left_of or right_of <= left or bottom <= top_of + 4 or bottom_of <= top + 4
                assert apart, (words, other)
    return [[words for _, words, *_ in texts if re.match(r"\d{4}-", words)] for _, *texts in drawn]


def test_everything_can_be_reached_with_the_keyboard(browser: Browser, path: Path) -> None:
    browser.open(path)
    reached = []
    for _ in range(14):
        browser.press("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert reached[0] == "Skip to the summary" and "find" in reached
    # What has the focus is outlined.
    browser.run("document.querySelector('summary').focus()")
    browser.press("Tab", 9)
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # A box that scrolls can be focused, and escape ends a search.
    boxes = browser.run("[...document.querySelectorAll('.scroll')].map(box => [box.tabIndex, Boolean(box.ariaLabel)])")
    assert boxes and all(box == [0, True] for box in boxes)
    browser.type("#find", "eastmere and dunm")
    browser.press("Escape", 27)
    assert browser.run("document.getElementById('find').value + document.querySelectorAll('.chosen').length") == "0"


def test_every_chart_has_words_and_a_table(browser: Browser, path: Path) -> None:
    browser.open(path)
    charts = browser.run(
        "[...document.querySelectorAll('figure')].map(f => [f.querySelector('svg').getAttribute('aria-label'), "
        "f.querySelector('figcaption').textContent.trim(), Boolean(f.closest('section, .view').querySelector('table'))])"
    )
    assert len(charts) >= 6
    assert all(label and caption and table for label, caption, table in charts)
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
