"""Classification by text is that of transformers and of open_clip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robustcl.cli.main import certify, robustcl
from robustcl.core.errors import CheckpointError, InputError
from robustcl.models.checkpoint import load_checkpoint, save_checkpoint
from robustcl.models.sources.opening import open_model
from robustcl.models.text_prototypes import (
    read_prototypes,
    text_prototypes,
    with_prototypes,
    write_prototypes,
)
from tests.models.sources.hub_folders import SIDE, open_clip_folder, transformers_folder

NAMES = ("ant", "bee", "cow")
TEMPLATES = ("a photo of a {}", "a bad photo of a {}")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def tokenizer_of_words(folder: Path) -> None:
    """Write a tokenizer of a few words, as CLIP's: begin, words, end; padded by the end."""
    library = pytest.importorskip("transformers", reason="needs transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # pyright: ignore[reportMissingImports]

    words = ["<pad>", "<s>", "</s>", "a", "photo", "of", "bad", *NAMES]
    plain = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    plain.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = library.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)


def hub_folder(name: str, folder: Path) -> torch.nn.Module:
    library = pytest.importorskip("transformers", reason="needs transformers")
    transformers_folder(name, folder)
    tokenizer_of_words(folder)
    model = getattr(library, name).from_pretrained(folder).eval()
    model.config.text_config.eos_token_id = 2
    model.save_pretrained(folder)
    return getattr(library, name).from_pretrained(folder).eval()


def pixels() -> torch.Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def normalized(points: torch.Tensor) -> torch.Tensor:
    return (points - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel"])
def test_scores_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = hub_folder(name, tmp_path)
    from transformers import AutoTokenizer  # pyright: ignore[reportMissingImports]

    texts = [f"a photo of a {text}" for text in NAMES]
    length = model.config.text_config.max_position_embeddings  # pyright: ignore[reportAttributeAccessIssue]
    how = (
        {"padding": "max_length", "max_length": length}
        if name == "SiglipModel"
        else {"padding": True}
    )
    tokens = AutoTokenizer.from_pretrained(tmp_path)(texts, return_tensors="pt", **how)
    given = {"input_ids": tokens["input_ids"], "pixel_values": normalized(pixels())}
    if name == "CLIPModel":
        given["attention_mask"] = tokens["attention_mask"]
    with torch.no_grad():
        wanted = model(**given).logits_per_image
    found = text_prototypes(tmp_path, NAMES)
    loaded = with_prototypes(open_model(tmp_path), found)
    assert loaded.classifier is not None and loaded.classifier.class_names == NAMES
    with torch.no_grad():
        scores = loaded.classifier(pixels())
    assert torch.allclose(scores, wanted, rtol=1e-4, atol=1e-4)


def test_scores_are_those_of_open_clip(tmp_path: Path) -> None:
    model = open_clip_folder(tmp_path)
    import open_clip  # pyright: ignore[reportMissingImports]

    tokens = open_clip.SimpleTokenizer(context_length=77)([f"a photo of a {n}" for n in NAMES])
    with torch.no_grad():
        image = model.encode_image(normalized(pixels()), normalize=True)
        text = model.encode_text(tokens, normalize=True)
        wanted = model.logit_scale.exp() * image @ text.T
        loaded = with_prototypes(open_model(tmp_path), text_prototypes(tmp_path, NAMES))
        assert loaded.classifier is not None
        assert torch.allclose(loaded.classifier(pixels()), wanted, rtol=1e-4, atol=1e-4)


def test_templates_are_averaged_on_the_sphere(tmp_path: Path) -> None:
    open_clip_folder(tmp_path)
    both = text_prototypes(tmp_path, NAMES, TEMPLATES).vectors
    one, other = (text_prototypes(tmp_path, NAMES, (text,)).vectors for text in TEMPLATES)
    mean = torch.nn.functional.normalize((one + other) / 2, dim=1)
    assert torch.allclose(both, mean, atol=1e-6) and not torch.allclose(both, one, atol=1e-3)


def test_the_commands(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "clip"
    open_clip_folder(folder)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES) + "\n")
    out = tmp_path / "text.safetensors"
    words = ["prompts", str(folder), "--classes", str(names), "--out", str(out)]
    assert robustcl(words) == 0 and "3 vectors of 24 numbers" in capsys.readouterr().out
    assert robustcl(words) == 2 and robustcl([*words, "--overwrite"]) == 0
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.array([NAMES[k % 3] for k in range(9)])
    np.savez(tmp_path / "test.npz", images=images, labels=labels, class_names=np.array(NAMES))
    run = ["run", str(folder), "--data", str(tmp_path / "test.npz"), "--attack", "none",
           "--methods", "none", "--quiet", "--json"]  # fmt: skip
    found = []
    for number, more in enumerate((["--prototypes", str(out)], ["--classes", str(names)])):
        capsys.readouterr()
        assert certify([*run, *more, "--out", str(tmp_path / f"run{number}")]) == 0
        said, told = capsys.readouterr()
        found.append(json.loads(said)["clean_accuracy"])
        assert "head: 3 text prototypes" in told
    assert found[0] == found[1]


def test_files_of_others_are_read(tmp_path: Path) -> None:
    rows = torch.randn(3, 5)
    units = torch.nn.functional.normalize(rows, dim=1)
    np.save(tmp_path / "a.npy", rows.numpy())
    save_file({"x": rows}, tmp_path / "b.safetensors")
    save_file(dict(zip(NAMES, rows.clone(), strict=True)), tmp_path / "c.safetensors")
    for name in ("a.npy", "b.safetensors", "c.safetensors"):
        found = read_prototypes(tmp_path / name, NAMES)
        assert torch.allclose(found.vectors, units) and found.class_names == NAMES
    turned = read_prototypes(tmp_path / "c.safetensors", NAMES[::-1])
    assert torch.allclose(turned.vectors, units.flip(0))
    write_prototypes(tmp_path / "d.safetensors", found, TEMPLATES)
    assert read_prototypes(tmp_path / "d.safetensors").class_names == NAMES


@pytest.mark.parametrize(
    ("content", "names", "words"),
    [
        (np.zeros((3, 5)), NAMES, "length 0"),
        (np.ones((3, 5)), NAMES[:2], "3 vectors for 2 class names"),
        (np.ones(5), NAMES, "numbers"),
        (np.full((3, 5), np.nan), NAMES, "numbers"),
        (np.array(["a"]), NAMES, "no array of numbers"),
    ],
)
def test_other_vectors_are_refused(content, names, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(InputError, match=words):
        read_prototypes(tmp_path / "a.npy", names)


def test_vectors_of_another_size_and_folders_without_text(tmp_path: Path) -> None:
    transformers_folder("ViTModel", tmp_path)
    with pytest.raises(CheckpointError, match="no folder of CLIP"):
        text_prototypes(tmp_path, NAMES)
    np.save(tmp_path / "a.npy", np.ones((3, 5)))
    with pytest.raises(InputError, match="5 numbers each and the encoder's embeddings 32"):
        with_prototypes(open_model(tmp_path), read_prototypes(tmp_path / "a.npy", NAMES))
    with pytest.raises(InputError, match="no single"):
        text_prototypes(tmp_path, NAMES, ("a photo",))


def test_a_model_with_prototypes_is_saved_and_loaded(tmp_path: Path) -> None:
    open_clip_folder(tmp_path)
    loaded = with_prototypes(open_model(tmp_path), text_prototypes(tmp_path, NAMES))
    assert loaded.classifier is not None
    save_checkpoint(tmp_path / "x.safetensors", loaded.classifier, loaded.description)
    again = load_checkpoint(tmp_path / "x.safetensors").classifier
    assert again is not None and again.class_names == NAMES
    with torch.no_grad():
        assert torch.equal(again(pixels()), loaded.classifier(pixels()))
