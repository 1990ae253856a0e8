"""Suites: what is refused, what is shipped, and the cells of a suite."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustcl import attacks, certify
from robustcl.core.errors import InputError
from robustcl.studies import cells, load_suite, read_suite, suite_names
from robustcl.studies.options import training_options
from robustcl.studies.suite import named_attack
from robustcl.workflows.recipes import recipe_of

SMALL: dict[str, Any] = {
    "question": "?",
    "data": ["digits", "npz:some.npz"],
    "seeds": [0, 1, 2],
    "norms": ["l2", "linf"],
    "certificates": {"l2": ["product"], "linf": ["crown"]},
    "attacks": ["pgd:steps=5"],
    "metrics": ["clean_accuracy", "nll"],
    "train": {"epochs": 3},
    "models": {"a": {}, "b": {"loss": "supcon", "epochs": 4}},
}


def test_product_of_cells() -> None:
    found = cells(read_suite("small", SMALL))
    kinds = [cell.kind for cell in found]
    runs = 2 * 2 * 3  # models x data x seeds
    assert (kinds.count("model"), kinds.count("audit")) == (runs, 2 * runs)
    assert kinds.count("calibration") == runs and len(found) == 4 * runs
    assert len({cell.folder for cell in found}) == len(found)
    places = [cell.folder for cell in found]
    for place, cell in enumerate(found):
        if cell.kind != "model":
            home = found[places.index(cell.needs)]
            assert places.index(cell.needs) < place and home.kind == "model"
            assert (home.model, home.data, home.seed) == (cell.model, cell.data, cell.seed)


def test_metrics_decide_what_is_run() -> None:
    audits = read_suite("small", {**SMALL, "metrics": ["clean_accuracy"]})
    assert {cell.kind for cell in cells(audits)} == {"model", "audit"}
    tables = read_suite("small", {**SMALL, "metrics": ["brier"]})
    assert {cell.kind for cell in cells(tables)} == {"model", "calibration"}


def test_own_options_go_before_shared_ones() -> None:
    first, second = read_suite("small", SMALL).models
    options = [training_options(m.training, data="digits", out=Path("m.safetensors"))
               for m in (first, second)]  # fmt: skip
    assert [recipe_of(one).epochs for one in options] == [3, 4]
    assert options[1].loss == "supcon"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"atacks": ["pgd"]}, ["'atacks'", "attacks", "certificates"]),
        ({"models": {"a": {"epoch": 3}}}, ["'epoch'", "epochs", "[models.a]"]),
        ({"train": {"learning-rate": 1e-3}}, ["'learning-rate'", "learning_rate", "[train]"]),
        ({"eps": {"l0": [0.1]}}, ["eps", "'l0'"]),
        ({"metrics": ["acuracy"]}, ["'acuracy'", "clean_accuracy"]),
        ({"metrics": ["nll@0.5"]}, ["nll takes no radius"]),
        ({"attacks": ["pdg"]}, ["'pdg'", "pgd"]),
        ({"attacks": ["pgd:stepps=3"]}, ["'stepps'", "steps"]),
        ({"attacks": ["ddn"]}, ["'ddn'", "'linf'", "l2 = "]),
        ({"certificates": ["smooothing"]}, ["'smooothing'", "smoothing"]),
        ({"models": {"a": {"loss": "simclrr"}}}, ["simclrr"]),
        ({"models": {"a": {"epochs": "many"}}}, ["many"]),
        (
            {"models": {"a": {"checkpoint": "m.safetensors", "loss": "simclr"}}},
            ["loss", "keep one"],
        ),
        ({"models": {"../a": {}}}, ["'../a'"]),
        ({"peers": ["autoatack"]}, ["'autoatack'", "autoattack"]),
        ({"corruptions": ["fog"]}, ["'fog'", "gaussian_noise"]),
        ({"severities": [0]}, ["severities[0]", ">= 1"]),
        ({"seeds": [-1]}, ["seeds[0]", ">= 0"]),
        ({"seeds": [1, 1]}, ["twice"]),
        ({"limit": 0}, ["field limit", ">= 1"]),
        ({"question": ""}, ["question"]),
        ({"models": {}}, ["no models"]),
        ({"norms": ["l0"]}, ["'l0'"]),
    ],
)
def test_mistakes_are_quoted(change: dict[str, Any], words: list[str]) -> None:
    content = {**SMALL, "train": {}, **change}
    with pytest.raises(InputError) as error:
        read_suite("small", content)
    assert all(word in str(error.value) for word in words), error.value


def test_data_of_one_kind_would_share_a_folder() -> None:
    suite = replace(read_suite("small", SMALL), data=("npz:a.npz", "npz:b.npz"))
    with pytest.raises(InputError, match="share a folder"):
        cells(suite)


def test_an_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown suite 'quik'.*quick"):
        load_suite("quik")


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_name_only_what_exists(name: str) -> None:
    suite = load_suite(name)
    assert suite.question.endswith("?") and cells(suite)
    for norm in suite.norms:
        for text in suite.certificates.get(norm, ()):
            assert norm in certify.METHODS[certify.parse_method(text).name].norms
        for text in suite.attacks.get(norm, ()):
            assert norm in attacks.ATTACKS[named_attack(text)].norms


def test_the_suites_asked_for_are_shipped() -> None:
    wanted = {"quick", "standard-attacks", "certificates", "contrastive-vs-supervised"}
    wanted |= {"label-fraction", "semantic", "multiview", "corruptions", "peers"}
    assert wanted <= set(suite_names())


def test_classes_are_matched_as_the_suite_says() -> None:
    plain = read_suite("small", SMALL)
    assert plain.classes == "names" and "classes" not in plain.to_dict()  # older suites go on
    known = read_suite("small", {**SMALL, "classes": "known"})
    assert known.classes == "known" and known.to_dict()["classes"] == "known"
    with pytest.raises(InputError, match="field classes: 'loosely' is none of 'names'"):
        read_suite("small", {**SMALL, "classes": "loosely"})
