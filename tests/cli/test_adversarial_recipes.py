"""The TOML recipes of adversarial contrastive training are readable and say what they are."""

from pathlib import Path

import pytest
import tyro

from robustcl.models.architectures import build_backbone
from robustcl.options.recipe_file import with_recipe
from robustcl.options.train import TrainOptions
from robustcl.training.robust import Acl, Deacl, Dynacl, Rocl
from robustcl.training.robust.attacked import Attacked
from robustcl.workflows.recipes import recipe_of

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "recipes"
KINDS = {"rocl": Rocl, "acl": Acl, "dynacl": Dynacl, "deacl": Deacl}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", ["", "_cpu"])
def test_recipes(name: str, size: str) -> None:
    place = FOLDER / f"{name}{size}.toml"
    words = with_recipe(["--recipe", str(place), "--data", "x", "--out", "a"], TrainOptions)
    options = tyro.cli(TrainOptions, args=words)
    recipe = recipe_of(options)
    assert isinstance(recipe.method, Attacked) and type(recipe.method) is KINDS[name]
    assert recipe.method.threat.eps == 8 / 255 and recipe.method.threat.norm == "linf"
    assert recipe.projector == (512 if not size and name != "deacl" else 0)
    assert options.projector == (0 if size else 512)
    assert build_backbone(options.encoder, {"channels": 3}) is not None
