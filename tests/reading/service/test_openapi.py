"""Property tests of the API against its own description."""

import cv2
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from hilum.reading.service.app import make_app

_NOISE = np.random.default_rng(0).integers(60, 200, (72, 72)).astype(np.uint8)
_FILES = [cv2.imencode(ending, _NOISE)[1].tobytes() for ending in (".png", ".jpg")]

# "binary" says no more than bytes; a file that the service is made for is an image.
schemathesis.openapi.format("binary", st.sampled_from(_FILES))


@pytest.mark.parametrize("with_runs", [False, True])
def test_answers_are_as_described(reader, new_reader, runs_folder, with_runs):
    app = (
        make_app(runs=runs_folder, open_reader=lambda path: new_reader(path.name))
        if with_runs
        else make_app(reader)
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    tried = []
    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy(generation_mode=GenerationMode.POSITIVE)
        if operation.ok().query or operation.ok().path_parameters:
            strategy |= operation.ok().as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def holds(case):
            case.call_and_validate(headers={"Host": "127.0.0.1"})

        holds()
        tried.append(operation.ok().path)
    assert {"/v1/predict", "/v1/heatmap", "/v1/model", "/healthz", "/metrics"} <= set(tried)
    assert ("/v1/comparison" in tried) == with_runs
