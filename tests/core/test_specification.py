"""Texts of options: whatever is written, it is read or refused in one line."""

from collections.abc import Callable
from typing import Literal

import pytest

from robustcl.attacks.methods import parse_attack
from robustcl.certify.methods import parse_method
from robustcl.core.budgets import read_budgets
from robustcl.core.errors import InputError
from robustcl.core.specification import (
    check_options,
    choose,
    parse_number,
    parse_specification,
    split_specifications,
)
from robustcl.models.inference_views import parse_views
from robustcl.training.losses import parse_losses
from robustcl.training.robust import parse_robust

VALUES = ("", "nan", "inf", "-inf", "1e400", "9" * 5000, "1" * 400 + "/3", "\x00", "\x1b[31m", "=")
NEVER = ("", ":", "=", "a:b", "a:b=", "a:b=1,b=2", "a:b=1,,", "a:" + "b=1," * 9, "x" * 100_000)


def test_no_value_is_endless_or_not_finite() -> None:
    for value in VALUES[:7]:
        with pytest.raises(InputError):
            parse_specification(f"a:b={value}")
    assert parse_specification("a:b=8/256,c=-2,d=true,e=x,f=.5").options == {
        "b": 0.03125, "c": -2, "d": True, "e": "x", "f": 0.5,
    }  # fmt: skip
    assert parse_specification(f"a:b={2**63 - 1}").options == {"b": 2**63 - 1}
    with pytest.raises(InputError, match="finite"):
        parse_specification(f"a:b={2**63}")
    for number in ("", "x", "true", "9" * 400, "1/0"):
        with pytest.raises(InputError, match=r"not a number|too large"):
            parse_number(number)


@pytest.mark.parametrize(
    "read",
    [
        parse_attack,
        parse_method,
        parse_losses,
        parse_robust,
        parse_views,
        lambda text: read_budgets(text, "l2"),
    ],
)
def test_bad_texts_are_refused_in_one_short_line(read: Callable[[str], object]) -> None:
    names = ("pgd:steps", "crown:split", "simclr:temperature", "shift:pixels", "acl:eps")
    for text in (*NEVER, *(f"{name}={value}" for name in names for value in VALUES)):
        if read is parse_robust and not text:
            continue  # no robust training
        with pytest.raises(InputError) as caught:
            read(text)
        assert len(str(caught.value)) < 2000, text[:40]


def test_lists_of_methods_are_read_in_time_that_grows_with_them() -> None:
    many = ",".join(f"m{k}" for k in range(20_000))
    assert len(split_specifications(many)) == 20_000
    for text in ("a,a", "a,,b", "", ","):
        with pytest.raises(InputError):
            split_specifications(text)


def test_words_are_words_and_choices_are_known() -> None:
    def method(*, word: str = "a", choice: Literal["x", "y"] = "x") -> tuple[str, str]:
        return word, choice

    assert check_options(parse_specification("m:word=b,choice=y"), method)
    for options in ("word=1", "word=true", "choice=z", "choice=1", "other=1"):
        with pytest.raises(InputError):
            check_options(parse_specification(f"m:{options}"), method)
    with pytest.raises(InputError, match="unknown thing"):
        choose("z" * 10_000, ["a"], what="thing")
