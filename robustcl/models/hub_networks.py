"""Build networks of `transformers` and `open_clip` as functions of one image tensor."""

import copy
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from robustcl.core.errors import InputError

Pick = Literal["logits", "pooler", "first", "image_embeds"]
HUBS = ("transformers", "open_clip")
CLASSIFIERS = "ForImageClassification"
# What of the outputs of a class of transformers is its embedding.
PICKS: dict[str, Pick] = {
    "ViTModel": "first", "DeiTModel": "first", "ViTMSNModel": "first", "Dinov2Model": "first",
    "Dinov2WithRegistersModel": "first", "ViTMAEModel": "first", "Data2VecVisionModel": "pooler",
    "ResNetModel": "pooler", "ConvNextModel": "pooler", "ConvNextV2Model": "pooler",
    "RegNetModel": "pooler", "SwinModel": "pooler", "Swinv2Model": "pooler", "BeitModel": "pooler",
    "EfficientNetModel": "pooler", "MobileNetV2Model": "pooler", "CLIPVisionModel": "pooler",
    "CLIPVisionModelWithProjection": "image_embeds", "SiglipVisionModel": "pooler",
}  # fmt: skip


class OneOutput(nn.Module):
    """Call a model of transformers on pixels, and return one tensor of what it puts out.

    Args:
        model: The model.
        pick: 'logits'; 'pooler' (the pooled output, flattened); 'first' (the first token of the
            last layer); or 'image_embeds'.
    """

    def __init__(self, model: nn.Module, pick: Pick) -> None:
        super().__init__()
        self.model = model
        self.pick = pick

    def forward(self, images: Tensor) -> Tensor:
        """Return scores or embeddings.

        Args:
            images: (B, C, H, W), normalized.

        Returns:
            (B, d).
        """
        outputs = self.model(pixel_values=images)
        if self.pick == "first":
            return outputs.last_hidden_state[:, 0]
        if self.pick == "pooler":
            return outputs.pooler_output.flatten(1)
        return outputs.logits if self.pick == "logits" else outputs.image_embeds


def pick_of(name: str) -> Pick:
    """Say what of a class's outputs is taken.

    Args:
        name: Of a class of transformers.

    Returns:
        As in `OneOutput`.

    Raises:
        InputError: When the class is none of those that are supported.
    """
    if name.endswith(CLASSIFIERS) and name.isidentifier():
        return "logits"
    if name not in PICKS:
        raise InputError(
            f"transformers' {name[:80]!r} is not supported; supported are classes that end in "
            f"{CLASSIFIERS}, and {', '.join(PICKS)}"
        )
    return PICKS[name]


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """Import transformers without its progress bars and advice.

    Yields:
        The module.

    Raises:
        InputError: When it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError('such a folder needs transformers; pip install "robustcl[hub]"') from error
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield transformers
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def transformers_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network of transformers with fresh weights.

    Args:
        name: A class, see `pick_of`.
        arguments: Holds `config`, what the class's `config.json` says.

    Returns:
        The network, wrapped in `OneOutput`.

    Raises:
        InputError: When the class is not supported, or the configuration does not fit.
    """
    pick, config = pick_of(name), arguments.get("config")
    if not isinstance(config, dict) or set(arguments) != {"config"}:
        raise InputError("a network of transformers takes one argument, its config as a table")
    refuse_code(config, "its config")
    with quiet_transformers() as library:
        kind = getattr(library, name, None)
        if kind is None:
            raise InputError(f"transformers has no class {name!r}")
        model = made(kind, kind.config_class.from_dict(copy.deepcopy(config)))
    return OneOutput(model, pick)


def made(kind: Any, config: Any) -> nn.Module:
    """Build a model without a pooling layer that such checkpoints often lack.

    Args:
        kind: The class.
        config: Its configuration.

    Returns:
        The model, in eval mode.
    """
    return kind(config, **without_pooler(kind)).eval()


def without_pooler(kind: Any) -> dict[str, bool]:
    """Say how a class is built without a pooling layer that is not used.

    Args:
        kind: The class.

    Returns:
        Keyword arguments of its constructor.
    """
    first = PICKS.get(kind.__name__) == "first"
    takes = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if first and takes else {}


def refuse_code(config: Mapping[str, Any], what: str) -> None:
    """Refuse a configuration that names code, or weights that are quantized.

    Args:
        config: What `config.json` says.
        what: The file, for messages.

    Raises:
        InputError: When it does.
    """
    if "auto_map" in config:
        raise InputError(
            f"{what} names code of its own (auto_map), which is not run on a file's word; write a "
            "factory that builds the model, and give FILE.py:factory"
        )
    if config.get("quantization_config"):
        raise InputError(f"{what} is of a quantized model; give the weights from before that")


def plain_config(config: Any) -> dict[str, Any]:
    """Write a configuration as plain values.

    Args:
        config: Of a model of transformers.

    Returns:
        A table.
    """
    return json.loads(config.to_json_string(use_diff=False))


def open_clip_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build the image tower of an open_clip model with fresh weights.

    Args:
        name: 'visual'.
        arguments: Holds `embed_dim`, `vision_cfg` and `quick_gelu`, as an open_clip configuration
            has them.

    Returns:
        Normalized images to embeddings.

    Raises:
        InputError: When open_clip is not installed, or the configuration does not fit.
    """
    if name != "visual" or not {"embed_dim", "vision_cfg"} <= set(arguments):
        raise InputError("open_clip:visual takes embed_dim, vision_cfg and quick_gelu")
    vision = dict(arguments["vision_cfg"])
    if vision.get("timm_model_pretrained") or vision.get("hf_model_pretrained"):
        raise InputError("vision_cfg asks for other weights; set it to false")
    library = import_open_clip()
    build = getattr(library.model, "_build_vision_tower", None)
    if build is None:
        raise InputError("this version of open_clip has no image tower to build; update robustcl")
    return build(
        arguments["embed_dim"], vision, quick_gelu=bool(arguments.get("quick_gelu", False))
    ).eval()


def import_open_clip() -> Any:
    """Import open_clip.

    Returns:
        The module.

    Raises:
        InputError: When it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import open_clip  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError('such a folder needs open_clip; pip install "robustcl[hub]"') from error
    return open_clip
