import asyncio
import json

import pytest
from fastapi.testclient import TestClient

from hilum.errors import HilumError, ImageError
from hilum.service._errors import ServiceError, answer_error, busy, image_error
from hilum.service.app import make_app


def test_an_unexpected_error_reveals_nothing_of_the_input(reader, make_png, caplog):
    def failing(images):
        raise RuntimeError("Secretname^Anna")

    reader._network.logits = failing
    app = make_app(reader)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        response = client.post("/v1/predict", files={"files": ("a.png", make_png())})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal"
    assert "Secretname" not in response.text + caplog.text
    assert "RuntimeError at test_errors.py" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ServiceError(404, "no-run", "There is no run 'x'."), 404, "no-run"),
        (busy("Two requests."), 503, "busy"),
        (HilumError("scores.parquet: the file is damaged."), 409, "unusable"),
        (KeyError("patient"), 500, "internal"),
    ],
)
def test_errors_are_json(error, status, code):
    response = asyncio.run(answer_error(None, error))
    body = json.loads(response.body)["error"]
    assert (response.status_code, body["code"], body["file"]) == (status, code, None)
    assert "patient" not in body["message"]
    assert response.headers.get("retry-after") == ("1" if status == 503 else None)


@pytest.mark.parametrize(
    ("code", "status"), [("too-large", 413), ("unsupported", 415), ("unreadable", 422), ("multi-frame", 422)]
)
def test_the_status_of_an_image_follows_its_error(code, status):
    error = image_error(ImageError(code, "x.png: wrong.", "Restore it from the data set."), "x.png")
    assert (error.status, error.code, error.file, error.message) == (status, code, "x.png", "x.png: wrong.")
