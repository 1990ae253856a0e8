"""Read the pages of the documentation: their fenced blocks, commands, inline code and links."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(
    str(place.relative_to(ROOT))
    for folder, pattern in (
        (ROOT, "README.md"),
        (ROOT, "CONTRIBUTING.md"),
        (ROOT, "CHANGELOG.md"),
        (ROOT / "docs", "*.md"),
        (ROOT / "docs" / "sources", "*.md"),
        (ROOT / "benchmarks" / "checkpoints", "*.md"),
    )
    for place in sorted(folder.glob(pattern))
)
FENCE = re.compile(r"^```(\w*)[ ]*(\S*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SETTING = re.compile(r"[A-Z][A-Z_0-9]*=\S*")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is to be saved as, its text and its first line."""

    language: str
    file: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """One command of a shell block, without the settings of the environment before it."""

    words: tuple[str, ...]
    settings: tuple[str, ...]
    line: int

    @property
    def text(self) -> str:
        return " ".join(self.words)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(text: str) -> list[Block]:
    """Read the fenced blocks in their order; an odd number of fences is an error."""
    assert len(re.findall(r"^```", text, flags=re.MULTILINE)) % 2 == 0, "a fence is not closed"
    return [
        Block(found[1], found[2], found[3], text[: found.start()].count("\n") + 2)
        for found in FENCE.finditer(text)
    ]


def commands_of(block: Block) -> list[Command]:
    """Read the commands of a shell block: lines, continued by a backslash, joined by &&."""
    found = []
    line = block.line
    for logical in block.text.replace("\\\n", "\x00").splitlines():
        words = shlex.split(logical.replace("\x00", " "), comments=True)
        parts: list[list[str]] = [[]]
        for word in words:
            assert word not in ("|", ">", ">>", ";", "||", "<"), (
                f"line {line}: {word!r} is not read"
            )
            if word == "&&":
                parts.append([])
            else:
                parts[-1].append(word)
        found += [command(part, line) for part in parts if part]
        line += 1 + logical.count("\x00")
    return found


def command(words: list[str], line: int) -> Command:
    """Split settings such as OMP_NUM_THREADS=1 from the command after them."""
    first = next((n for n, word in enumerate(words) if not SETTING.fullmatch(word)), len(words))
    return Command(tuple(words[first:]), tuple(words[:first]), line)


def inline_commands(text: str) -> list[Command]:
    """Read the commands in the running text: those of this toolkit, and its scripts."""
    plain = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    found = []
    for code in INLINE.finditer(plain):
        try:
            words = shlex.split(code[1])
        except ValueError:
            continue
        one = command(words, plain[: code.start()].count("\n") + 1)
        if one.words[:1] in (("robustcl",), ("certify",), ("python",), ("torchrun",)):
            found.append(one)
    return found


def links_of(text: str) -> list[str]:
    """Read the relative links and images, without what follows a #."""
    targets = (target.partition("#")[0] for target in LINK.findall(text))
    return [target for target in targets if target and "://" not in target]
