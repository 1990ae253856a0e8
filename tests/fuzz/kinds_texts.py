"""Spoil recipes, suites, class vectors, logs, and the texts of options."""

import random
import shutil
from pathlib import Path

from tests.fuzz.case import BAD_INPUT, Case
from tests.fuzz.kinds_files import FINE
from tests.fuzz.mutations import spoiled_bytes
from tests.fuzz.registry import kind

WORDS = (
    *(
        "-1",
        "0",
        "1",
        "1e9",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "1_0",
        "0x10",
        "true",
        "None",
        "[]",
        "",
    ),
    *(" ", "'x'", "\x1b[2J", "a,b", "=", ":", ",,", "a=b=c", "../..", "\u202e", "9" * 400, "1/0"),
    *(
        "8/255",
        "1e-400",
        "-0.0",
        "99999999999",
        "{",
        "}",
        "%",
        "\\",
        "é",
        "💥",
        "x" * 20_000,
        "--x",
    ),
)
TOML = (
    *("-1", "0", "1e308", "nan", "inf", "true", '"x"', '""', "[]", "{}", "[1, 'a']", "2020-01-01"),
    *('"\\u001b[2J"', "99999999999999999999", "[[[]]]", '"../../x"', "{a = {b = 1}}", '"\\u202e"'),
)


def _spoiled_toml(draws: random.Random, text: str) -> str:
    if draws.random() < 0.25:
        return spoiled_bytes(draws, text.encode()).decode("latin-1")
    lines = text.splitlines()
    numbers = [k for k, line in enumerate(lines) if "=" in line and not line.startswith(" ")]
    number = draws.choice(numbers)
    key = lines[number].partition("=")[0]
    action = draws.random()
    if action < 0.7:
        lines[number] = f"{key} = {draws.choice(TOML)}"
    elif action < 0.8:
        lines.insert(number, lines[number])
    elif action < 0.9:
        lines[number] = f"strange_{key.strip()} = 1"
    else:
        lines[number] = f"[{key.strip()}]"
    return "\n".join(lines)


@kind("recipe", share=2)
def recipe(draws: random.Random, folder: Path, good: Path) -> Case:
    text = _spoiled_toml(draws, (good / "recipe.toml").read_text())
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    shutil.copy(good / "data.npz", folder)
    words = ["train", "--recipe", "recipe.toml", "--out", "out.safetensors", "--max-seconds", "1"]
    return Case("robustcl", words, FINE, out="out.safetensors", kept=("out.csv", "out.png"))


@kind("suite", share=2)
def suite(draws: random.Random, folder: Path, good: Path) -> Case:
    text = _spoiled_toml(draws, (good / "suite.toml").read_text())
    if draws.random() < 0.2:
        odd = draws.choice((
            '".."',
            '""',
            '"/abs"',
            '"a/b"',
            '"."',
            '"\\u001b[2J"',
            '"-x"',
            '"C:\\\\x"',
        ))
        text = text.replace("[models.small]", f"[models.{odd}]")
    (folder / "suite.toml").write_text(text, encoding="utf-8")
    shutil.copy(good / "data.npz", folder)
    shutil.copy(good / "model.safetensors", folder)
    return Case("robustcl", ["bench", "suite.toml", "--out", "out"], frozenset({0, 2, 4}))


@kind("class vectors, taxonomies, word vectors", share=1.5)
def targets(draws: random.Random, folder: Path, good: Path) -> Case:
    name, spec = draws.choice((
        ("tree.toml", "taxonomy:"),
        ("words.txt", "words:"),
        ("vectors.npy", "npy:"),
    ))
    (folder / name).write_bytes(spoiled_bytes(draws, (good / name).read_bytes()))
    for other in ("data.npz", "recipe.toml"):
        shutil.copy(good / other, folder)
    more = draws.choice(("", "", ",center=true", ",blend=2", ",blend=nan", ",x=1"))
    words = ["train", "--recipe", "recipe.toml", "--out", "out.safetensors", "--max-seconds", "1",
             "--targets", f"{spec}{name}{more}"]  # fmt: skip
    return Case("robustcl", words, FINE, out="out.safetensors", kept=("out.csv", "out.png"))


@kind("training log")
def training_log(draws: random.Random, folder: Path, good: Path) -> Case:
    log = "step,epoch,loss,learning_rate,seconds\n1,0,2.5,0.001,0.1\n2,0,2.4,0.001,0.2\n"
    (folder / "log.csv").write_bytes(spoiled_bytes(draws, log.encode()))
    return Case("robustcl", ["report", "log.csv"], FINE, out="log.png")


OF_RUN = (
    *("--data", "--methods", "--attack", "--eps", "--views", "--count", "--limit", "--batch-size"),
    *("--seed", "--split", "--norm", "--aggregate", "--device", "--require", "--plan", "--classes"),
)
METHODS = (
    *("product", "smoothing", "local", "crown", "sound", "first_order", "clever", "geodesic"),
    *("jacobian_norm", "multi_view", "nothing"),
)
ATTACKS = (
    "pgd",
    "autoattack",
    "fmn",
    "ddn",
    "deepfool",
    "apgd",
    "noise",
    "boundary_walk",
    "nothing",
)
KEYS = ("sigma", "n", "alpha", "form", "steps", "restarts", "eps", "name", "lr", "x", "", "n0")
OF_TRAIN = (
    *("--loss", "--robust", "--labels", "--epochs", "--learning-rate", "--weight-decay", "--ema"),
    *(
        "--warmup",
        "--batch-size",
        "--accumulate",
        "--projector",
        "--arch",
        "--views",
        "--optimizer",
    ),
    *("--save-every", "--measure-every", "--temperature", "--label-weight", "--targets", "--seed"),
    *("--momentum", "--labeled-batch", "--log-norm-penalty", "--max-seconds", "--limit", "--data"),
)
LOSSES = ("simclr", "supcon", "suncet", "filter", "semantic", "debiased", "hard_negative", "x", "")
ROBUST = ("penalty", "noise", "lipschitz", "acl", "rocl", "dynacl", "deacl", "x")


def _specification(draws: random.Random, names: tuple[str, ...]) -> str:
    text = draws.choice(names)
    if draws.random() < 0.8:
        pairs = [f"{draws.choice(KEYS)}={draws.choice(WORDS)}" for _ in range(draws.randint(1, 2))]
        text += ":" + ",".join(pairs)
    return text


@kind("options of certify run", share=2)
def run_options(draws: random.Random, folder: Path, good: Path) -> Case:
    shutil.copy(good / "data.npz", folder)
    shutil.copy(good / "model.safetensors", folder)
    options = {"--data": "npz:data.npz", "--limit": "1", "--methods": "none", "--attack": "none"}
    for _ in range(draws.randint(1, 2)):
        name = draws.choice(OF_RUN)
        options[name] = draws.choice(WORDS)
        if name == "--methods":
            options[name] = _specification(draws, METHODS)
        elif name == "--attack":
            options[name] = _specification(draws, ATTACKS)
        elif name == "--data" and draws.random() < 0.7:
            options[name] = f"npz:data.npz,{draws.choice(KEYS)}={draws.choice(WORDS)}"
    options["--plan"] = options.get("--plan", "1")
    words = [part for name, value in options.items() for part in (name, value.replace("\0", ""))]
    return Case("certify", ["run", "model.safetensors", "--out", "out", *words], FINE)


@kind("options of robustcl train", share=2)
def train_options(draws: random.Random, folder: Path, good: Path) -> Case:
    for name in ("data.npz", "recipe.toml"):
        shutil.copy(good / name, folder)
    options = {"--max-seconds": "1"}
    for _ in range(draws.randint(1, 2)):
        name = draws.choice(OF_TRAIN)
        options[name] = draws.choice(WORDS)
        if name == "--loss":
            options[name] = _specification(draws, LOSSES)
        elif name == "--robust":
            options[name] = _specification(draws, ROBUST)
    words = [part for name, value in options.items() for part in (name, value)]
    return Case(
        "robustcl", ["train", "--recipe", "recipe.toml", "--out", "out.safetensors", *words],
        FINE, out="out.safetensors", kept=("out.csv", "out.png", "out.teacher.safetensors",
                                           "out.teacher.csv", "out.teacher.png"),
    )  # fmt: skip


@kind("options of the other commands", share=1.5)
def other_options(draws: random.Random, folder: Path, good: Path) -> Case:
    for name in ("data.npz", "model.safetensors", "weights.pth"):
        shutil.copy(good / name, folder)
    model = "model.safetensors"
    base = {
        "probe": [model, "--data", "npz:data.npz", "--out", "out.safetensors", "--quiet"],
        "embed": [model, "--data", "npz:data.npz", "--out", "out.npz"],
        "convert": ["weights.pth", "--arch", "small_convnet", "--out", "out.safetensors"],
        "attack": [model, "--data", "npz:data.npz", "--out", "out", "--limit", "1", "--plan", "1"],
        "multiview": [model, "--data", "npz:data.npz", "--out", "out", "--limit", "1"],
        "inspect": [model],
        "bench": ["quick", "--out", "out", "--list"],
        "report": ["."],
        "reproduce": [model, "--checkpoint", model],
    }
    more = {
        "probe": ("--head", "--protocol", "--labels", "--epochs", "--eps", "--steps", "--limit"),
        "embed": ("--split", "--limit", "--batch-size", "--data", "--arch", "--seed"),
        "convert": ("--arch", "--arguments", "--input-size", "--mean", "--std"),
        "attack": ("--protocol", "--eps", "--norm", "--views", "--limit"),
        "multiview": ("--count", "--aggregate", "--views", "--eps", "--attacked", "--held-out"),
        "inspect": ("--json", "--x"),
        "bench": ("--limit", "--x"),
        "report": ("--out", "--require"),
        "reproduce": ("--views", "--count", "--arch"),
    }
    name = draws.choice(sorted(base))
    words = [name, *base[name], draws.choice(more[name]), draws.choice(WORDS)]
    return Case("robustcl", words, FINE | {4}, out="out", kept=("out.npz", "out.safetensors"))


@kind("words that are no command")
def no_command(draws: random.Random, folder: Path, good: Path) -> Case:
    program = draws.choice(("certify", "robustcl"))
    words = [draws.choice(WORDS[1:]) for _ in range(draws.randint(1, 3))]
    return Case(program, [w for w in words if w != "--help"], frozenset({BAD_INPUT}), out="out")
