"""The answers against their OpenAPI description and its examples."""

import cv2
import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from hilum.inference._metadata import model_metadata
from hilum.run_folder import RunFolder
from hilum.service import _routes_runs as routes_runs
from hilum.service.app import make_app

_NOISE = np.random.default_rng(0).integers(60, 200, (72, 72)).astype(np.uint8)
_FILES = [cv2.imencode(ending, _NOISE)[1].tobytes() for ending in (".png", ".jpg")]

# OpenAPI's "binary" allows any bytes; here it is an image.
schemathesis.openapi.format("binary", st.sampled_from(_FILES))


@pytest.mark.parametrize("with_runs", [False, True])
def test_answers_match_their_schema(reader, new_reader, runs_folder, with_runs):
    app = (
        make_app(runs_folder, open_reader=lambda path: new_reader(path.name))
        if with_runs
        else make_app(reader)
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    tested = []
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
        tested.append(operation.ok().path)
    assert {"/v1/predict", "/v1/heatmap", "/v1/model", "/healthz", "/metrics"} <= set(tested)
    assert ("/v1/comparison" in tested) == with_runs


#: Objects whose keys are names (of targets, settings, scores), or not the same for all runs.
_OPEN = {
    *("metadata.thresholds.*", "metadata.scores[]", "metadata.provenance.net_kwargs"),
    *("metadata.provenance.versions", "metadata.thresholds"),
    *("runs[].settings", "runs[].scores", "labels", "parts", "about"),
    *("parts.*.mean", "parts.*.targets", "parts.*.targets.*", "comparisons[].changes.groups"),
    *("comparisons[].operating_points", "comparisons[].flips.counts", "comparisons[].flips.images"),
    *("comparisons[].about_models.mean", "comparisons[].about_models.targets"),
    "comparisons[].about_models.targets.*",
}


def assert_alike(example, answer, place=""):
    """An example must have an answer's keys and types of values; FastAPI omits nulls in examples."""
    if example is None or answer is None:
        return
    if isinstance(example, dict) and place in _OPEN:
        for name, value in example.items():
            found = answer.get(name, next(iter(answer.values()), None))
            assert_alike(value, found, f"{place}.*")
    elif isinstance(example, dict):
        assert {name for name, value in answer.items() if value is not None} <= set(example), place
        assert set(example) <= set(answer), place
        for name, value in example.items():
            assert_alike(value, answer[name], f"{place}.{name}".lstrip("."))
    elif isinstance(example, list):
        assert isinstance(answer, list), place
        for value in example[:1] if answer else []:
            assert_alike(value, answer[0], f"{place}[]")
    elif isinstance(example, bool | str):
        assert type(example) is type(answer), place
    else:
        assert isinstance(answer, int | float), place


def real_answers(client, runs_folder):
    """OpenAPI's addresses, each with a real answer."""
    metadata = model_metadata(
        RunFolder(runs_folder / "first")
    )  # those of the reader in these tests are shorter
    # The reference is too long for an example.
    metadata["preprocessing"] |= {"reference": None, "reference_lack": "the images are missing"}
    model = client.get("/v1/model").json() | {"metadata": metadata}
    return {
        "/healthz": client.get("/healthz").json(),
        "/v1/predict": client.post("/v1/predict", files={"files": ("chest.png", _FILES[0])}).json(),
        "/v1/model": model,
        "/v1/runs": client.get("/v1/runs").json(),
        "/v1/runs/{name}/curves": client.get("/v1/runs/first/curves").json(),
        "/v1/runs/{name}/mistakes": client.get("/v1/runs/first/mistakes").json(),
        "/v1/runs/{name}/images/{image_id}": client.get("/v1/runs/first/images/17").json(),
        "/v1/comparison": client.get("/v1/comparison?a=first&b=second").json(),
    }


def test_every_json_answer_has_an_example_like_a_real_answer(new_reader, runs_folder, monkeypatch):
    monkeypatch.setattr(routes_runs, "REPLICATES", 100)
    app = make_app(runs_folder, open_reader=lambda path: new_reader(path.name))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        openapi = client.get("/openapi.json").json()
        answers = real_answers(client, runs_folder)
    examples = {}
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            content = operation["responses"]["200"]["content"].get("application/json")
            if content is not None:
                schema = content["schema"]["$ref"].rpartition("/")[2]
                (examples[path],) = openapi["components"]["schemas"][schema]["examples"]
    assert set(examples) == set(answers)
    for path, example in examples.items():
        assert_alike(example, answers[path])
