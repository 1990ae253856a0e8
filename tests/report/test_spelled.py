"""Values of tables as people read them, also where a file says something else than a number."""

import pandas as pd

from robustcl.report.sections import spelled_out


def test_a_text_in_the_place_of_a_number_is_shown_as_it_is() -> None:
    values = {"accuracy": [0.5, "%s{0}"], "radius": [0.25, "x"], "norm": ["l2", "l2"]}
    found = spelled_out(pd.DataFrame(values))
    assert found["accuracy"].tolist() == ["50.0 %", "%s{0}"]
    assert found["radius"].tolist()[1] == "x" and "0.25" in found["radius"].tolist()[0]
