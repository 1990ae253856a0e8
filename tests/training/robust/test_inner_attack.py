"""Norms for which training is made robust."""

import pytest

from robustcl.core.errors import InputError
from robustcl.training.robust import parse_robust


@pytest.mark.parametrize("name", ["penalty", "acl", "dynacl", "rocl", "deacl"])
def test_l1_is_refused_where_no_method_is_made_for_it(name: str) -> None:
    for norm in ("l2", "linf"):
        assert parse_robust(f"{name}:norm={norm}")
    with pytest.raises(InputError, match="l1"):
        parse_robust(f"{name}:norm=l1")
