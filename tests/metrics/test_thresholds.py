import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.metrics.thresholds import resolve_thresholds

TARGETS = ("Edema", "Fracture", "Pleural_Effusion")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [0.5, 0.5, 0.5]),
        (0.2, [0.2, 0.2, 0.2]),
        (1, [1.0, 1.0, 1.0]),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        (np.array([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3]),
        ({"Fracture": 0.3}, [0.5, 0.3, 0.5]),
        ({"pleural effusion": 0.3, "Edema": 0}, [0.0, 0.5, 0.3]),
    ],
)
def test_every_way_to_give_thresholds(given, expected):
    resolved = resolve_thresholds(given, TARGETS)
    assert resolved.dtype == np.float64
    assert resolved.tolist() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Edma": 0.3}, r"no target 'Edma'\. Did you mean 'Edema'\?"),
        ({"Effusion": 0.3, "Pleural_Effusion": 0.4}, "Pleural_Effusion is given twice"),
        ({"Fracture": 1.7}, "Fracture is 1.7"),
        (-0.1, "Edema is -0.1"),
        ([0.5, float("nan"), 0.5], "Fracture is nan"),
        ([0.5, 0.5, "high"], "Pleural_Effusion is 'high'"),
        ([0.5, 0.5], r"2 values for 3 targets .*'Edema': 0\.3"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(HilumError, match=message):
        resolve_thresholds(given, TARGETS)
