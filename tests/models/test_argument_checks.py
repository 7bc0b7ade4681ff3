"""Values of settings: passed through, or refused with what is allowed."""

import pytest

from hilum.errors import HilumError
from hilum.models.argument_checks import one_of, share, whole_number, whole_numbers


def test_good_values_pass():
    assert whole_number("growth_rate", 3) == 3
    assert whole_numbers("channels", [4, 8]) == (4, 8)
    assert share("drop_rate", 0) == 0
    assert one_of("layers", 34, (18, 34)) == 34


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((lambda value: whole_number("x", value, 2), value) for value in (1, 2.0, "2", True, None)),
        *((lambda value: whole_numbers("x", value), value) for value in ([], [0], [1.5], [True], 3, "12")),
        *((lambda value: share("x", value), value) for value in (-0.1, 1, "0.5", False, float("nan"))),
        *((lambda value: one_of("x", value, (1, 3)), value) for value in (2, "1", True, [1], {})),
    ],
)
def test_others_are_refused_with_name_and_value(check, value):
    with pytest.raises(HilumError) as told:
        check(value)
    assert str(told.value).startswith("net_kwargs: x must be ")
    assert str(told.value).endswith(f"it is {value!r}.")
