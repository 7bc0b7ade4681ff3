import math
import tomllib
from pathlib import Path

import pytest

from hilum.sweeps.toml import as_toml


def test_what_is_written_is_read_back():
    settings = {
        "name": 'a "quoted" \\ path\nwith a line, ü and \x7f',
        "learning_rate": 1e-20,
        "huge": 1e300,
        "number": -3,
        "yes": True,
        "no": False,
        "names": ["a", "b"],
        "empty": [],
        "table": {"a b": {"c": [1.5, {"d": 1}]}, "none": None},
    }
    read = tomllib.loads(as_toml(settings | {"left_out": None, "root": Path("a/b")}))
    del settings["table"]["none"]
    assert read == settings | {"root": "a/b"}
    assert math.isinf(tomllib.loads(as_toml({"x": math.inf}))["x"])


def test_other_things_have_no_form():
    with pytest.raises(TypeError, match="has no form in TOML"):
        as_toml({"x": object()})
