"""Small folders as transformers, timm and open_clip save them, with random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

SIDE = 32


def transformers_folder(name: str, place: Path, **more: Any) -> Callable[[Tensor], Tensor]:
    """Save a small model of a class, and return it as a function of normalized pixels."""
    library = pytest.importorskip("transformers", reason="needs transformers")
    torch.manual_seed(0)
    small = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip
    text = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "vocab_size": 600, "max_position_embeddings": 16,
    }  # fmt: skip
    kind = getattr(library, name)
    if name.startswith(("CLIPModel", "SiglipModel")):
        config = kind.config_class(vision_config=small, text_config=text)
        if name == "CLIPModel":
            config.projection_dim = 24
    elif name.startswith(("ResNet", "RegNet")):
        config = kind.config_class(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5
        )
    elif name.startswith("ConvNext"):
        config = kind.config_class(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=5)
    else:
        config = kind.config_class(**small, num_labels=5)
    for key, value in more.items():
        setattr(config, key, value)
    model = kind(config).eval()
    for value in model.parameters():
        nn.init.normal_(value, std=0.2)
    model.save_pretrained(place)
    processor(place)

    def call(images: Tensor) -> Tensor:
        with torch.no_grad():
            if name.endswith("ForImageClassification"):
                return model(pixel_values=images).logits
            if name.startswith(("CLIPModel", "SiglipModel")):
                found = model.get_image_features(pixel_values=images)
                return found if isinstance(found, Tensor) else found.pooler_output
            outputs = model(pixel_values=images)
            if name in ("ViTModel", "Dinov2Model"):
                return outputs.last_hidden_state[:, 0]
            if name == "CLIPVisionModelWithProjection":
                return outputs.image_embeds
            return outputs.pooler_output.flatten(1)

    return call


def processor(place: Path, **more: Any) -> None:
    """Write a preprocessor_config.json."""
    content = {
        "do_resize": True, "size": {"shortest_edge": 40}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25],
    } | more  # fmt: skip
    (place / "preprocessor_config.json").write_text(json.dumps(content))


def timm_folder(name: str, place: Path, *, classes: int = 5) -> Callable[[Tensor], Tensor]:
    """Save a model in timm's own format for the hub."""
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=classes).eval()
    timm.models.save_for_hf(model, str(place), safe_serialization=True)

    def call(images: Tensor) -> Tensor:
        with torch.no_grad():
            return model(images)

    return call


OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def open_clip_folder(place: Path) -> Any:
    """Save an open_clip model, and return it."""
    library = pytest.importorskip("open_clip", reason="needs open_clip")
    torch.manual_seed(0)
    model = library.CLIP(**OPEN_CLIP).eval()
    place.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), place / "open_clip_pytorch_model.bin")
    how = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "size": SIDE}
    (place / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": how})
    )
    return model
