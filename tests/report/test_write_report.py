import base64
import csv
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robustcl.core.numbers import radius_text
from robustcl.records.reading import load_run, read_manifest
from robustcl.records.summary import summarize
from robustcl.report import write_report
from robustcl.report.flags import flags
from robustcl.report.plots import principal_components
from robustcl.report.tables import latex, markdown, write_tables
from tests.report.synthetic_run import (
    attack,
    certificate,
    clean,
    four_images,
    large_run,
    write_arrays,
    write_run,
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(large_run(tmp_path_factory.mktemp("run"), n=60, classes=3))


def test_the_page_loads_nothing_from_elsewhere(report):
    page = report.read_text(encoding="utf-8")
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert len(sources) == 7
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|//cdn|@import|url\(|<script|<link", page)


def test_every_picture_can_be_opened(report):
    page = report.read_text(encoding="utf-8")
    for kind, content in re.findall(r"data:image/([a-z+]+);base64,([A-Za-z0-9+/=]+)", page):
        data = base64.b64decode(content)
        if kind == "png":
            Image.open(io.BytesIO(data)).load()
        else:
            assert b"<svg" in data
    names = {place.name for place in (report.parent / "figures").iterdir()}
    assert names == {
        *("sandwich.svg", "sandwich.png", "radius_scatter.png", "radius_histogram.png"),
        *("embedding_map.png", "triples.png", "estimates.png", "budget.png"),
    }


def test_the_headline_states_norm_guarantee_subject_and_interval(tmp_path):
    folder = write_run(tmp_path, four_images())
    page = write_report(folder).read_text(encoding="utf-8")
    sentence = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert sentence is not None
    assert sentence[1] == (
        "At L2 radius 0.1, 50.0 % [6.8, 93.2] of 4 images are classified correctly with a "
        "deterministic guarantee for the model itself; attacks left 75.0 % correct. Median "
        "certified L2 radius 0.15 beside attacked median 0.55 (wrong images count 0)."
    )
    assert "No violation in 3 pairs" in page
    assert read_manifest(folder)["config_hash"] in page
    assert "torch 2.14.0" in page and "steps=40" in page


def test_the_report_is_rebuilt_identically_from_disk(report):
    files = [place for place in report.parent.rglob("*") if place.is_file()]
    before = {place: place.read_bytes() for place in files}
    write_report(report.parent)
    assert {place for place in report.parent.rglob("*") if place.is_file()} == set(before)
    assert [place.name for place in files if place.read_bytes() != before[place]] == []


def test_summary_and_tables_say_what_the_summary_says(report):
    found = summarize(load_run(report.parent))
    stored = json.loads((report.parent / "summary.json").read_text(encoding="utf-8"))
    assert stored["clean_accuracy"] == found.clean_accuracy
    assert stored["certified_accuracy"] == found.certified_accuracy
    with (report.parent / "tables" / "methods.csv").open(encoding="utf-8") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert float(rows["product"]["median_radius"]) == found.by_method["product"]["median"]
    assert rows["first_order"]["certified_accuracy"] == ""
    kinds = {place.suffix for place in (report.parent / "tables").iterdir()}
    assert kinds == {".csv", ".md", ".tex"}


def test_what_comes_from_data_is_escaped(tmp_path):
    bad = "<script>alert(1)</script>"
    records = [clean(0, 0, 0), certificate(0, 0, 0, 0.4, method=bad), attack(0, 0, 0, 0.3)]
    records += [certificate(0, 0, 0, 0.1, method="$_$")]
    folder = write_run(tmp_path, records, class_names=[bad, "$x_$"], command=f"run {bad}")
    write_arrays(folder, [0, 1], channels=1)
    page = write_report(folder).read_text(encoding="utf-8")
    assert bad not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_violation_is_red_and_names_its_image(tmp_path):
    records = [*four_images(), clean(41, 0, 0), certificate(41, 0, 0, 0.4), attack(41, 0, 0, 0.3)]
    page = write_report(write_run(tmp_path, records)).read_text(encoding="utf-8")
    box = re.search(r'<div class="box bad">(.*?)</div>', page, re.DOTALL)
    assert box is not None
    assert "VIOLATION" in box[1]
    assert "image <strong>41</strong>" in box[1] and "0.4" in box[1] and "0.3" in box[1]
    assert "No violation" not in page


@pytest.mark.parametrize(
    "records, words",
    [
        ([clean(0, 0, 0)], ("No certificate was computed", "No attack was run", "nothing to draw")),
        ([clean(0, 0, 0), certificate(0, 0, 0, 0.2)], ("No attack was run", "were not tested")),
        ([clean(0, 0, 0), attack(0, 0, 0, 0.2)], ("No certificate was computed",)),
        ([clean(0, 0, 0), attack(0, 0, 0, None)], ("above 1", "were not tested")),
        ([clean(0, 1, 0), certificate(0, 1, 0, 0.0), attack(0, 1, 0, 0.1)], ("0.0 %",)),
        (
            [clean(0, 0, 0), certificate(0, 0, 0, 1.0, method="first_order", guarantee="estimate")],
            ("to set them against", "no deterministic certificate"),
        ),
    ],
)
def test_runs_that_lack_a_side_say_so(tmp_path, records, words):
    page = write_report(write_run(tmp_path, records)).read_text(encoding="utf-8")
    for word in words:
        assert word in page


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [[0], [0, 0], [0, 1, 2, 11, 23]])
def test_images_and_classes_of_every_kind_are_drawn(tmp_path, channels, labels):
    records = [clean(i, y, y) for i, y in enumerate(labels)]
    records += [certificate(i, y, y, 0.01) for i, y in enumerate(labels)]
    records += [attack(i, y, y, None if i else 0.3) for i, y in enumerate(labels)]
    folder = write_run(tmp_path, records, class_names=[])
    write_arrays(folder, labels, channels=channels)
    write_report(folder)
    drawn = {place.stem for place in (folder / "figures").iterdir()}
    assert {"sandwich", "radius_scatter", "triples"} <= drawn
    assert ("embedding_map" in drawn) == (len(labels) > 1)


def test_pictures_of_an_earlier_state_do_not_stay(tmp_path):
    write_report(write_run(tmp_path, four_images()))
    write_report(write_run(tmp_path, [clean(0, 0, 0)]))
    assert list((tmp_path / "figures").iterdir()) == []


def test_an_incomplete_run_is_flagged_and_an_ordinary_one_is_not(tmp_path):
    records = [clean(i, i % 2, i % 2) for i in range(100)]
    records += [certificate(i, i % 2, i % 2, 0.1) for i in range(100)]
    records += [attack(i, i % 2, i % 2, 0.4) for i in range(100)]
    run = load_run(write_run(tmp_path / "whole", records))
    assert flags(run, summarize(run)) == []
    run = load_run(write_run(tmp_path / "part", records[:150], complete=False, num_examples=200))
    text = " ".join(flags(run, summarize(run)))
    assert "not complete" in text and "100 of 200" in text and "50 of 100" in text


def test_the_projection_keeps_a_plane_and_its_variance():
    random = np.random.default_rng(0)
    flat = random.normal(size=(50, 2)) * [3.0, 1.0]
    turned, _ = np.linalg.qr(random.normal(size=(7, 7)))
    points, shares = principal_components(flat @ turned[:2])
    centered = flat - flat.mean(axis=0)
    assert np.allclose(points @ points.T, centered @ centered.T)
    assert sum(shares) == pytest.approx(1.0)
    assert principal_components(np.ones((3, 4)))[1] == (0.0, 0.0)


def test_radii_are_spelled_with_what_they_mean():
    assert radius_text(0.05312, "l2") == "0.0531"
    assert radius_text(8 / 255, "linf") == "0.0314 (8/255)"
    assert radius_text(None, "l2") == "–"
    assert radius_text(float("inf"), "l2", largest_eps=2.0) == "above 2"


def test_tables_escape_their_language():
    table = pd.DataFrame({"a_b": ["x|y", "50 %"], "r": [0.5, float("inf")]})
    assert r"x\|y" in markdown(table)
    assert r"a\_b" in latex(table) and r"50 \%" in latex(table) and r"$\infty$" in latex(table)


def test_a_long_table_is_whole_in_csv_and_cut_where_people_read_it(tmp_path):
    write_tables(tmp_path, {"images": pd.DataFrame({"index": range(1003)})})
    folder = tmp_path / "tables"
    texts = {end: (folder / f"images.{end}").read_text() for end in ("csv", "md", "tex")}
    assert len(texts["csv"].splitlines()) == 1004
    assert "| 999 |" in texts["md"] and "| 1000 |" not in texts["md"]
    assert texts["md"].endswith("\n3 more rows: images.csv\n")
    assert texts["tex"].endswith("% 3 more rows: images.csv\n") and "1000" not in texts["tex"]
    write_tables(tmp_path, {"images": pd.DataFrame({"index": range(1000)})})
    assert "more rows" not in (tmp_path / "tables" / "images.md").read_text()
