import asyncio
import logging
import tempfile

import pytest
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from hilum.inference.image import Limits
from hilum.service._errors import ServiceError
from hilum.service._uploads import ServiceLimits, Uploads
from hilum.service.app import make_app

FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\nx'


@pytest.fixture
def strict(reader):
    """A service with low limits."""
    limits = ServiceLimits(file_bytes=50_000, pixels=20_000, files=2, body_bytes=90_000)
    with TestClient(make_app(reader, limits=limits), base_url="http://127.0.0.1:8000") as client:
        yield client


def test_limits_of_files_are_those_of_the_command_line():
    limits, command_line = ServiceLimits(), Limits()
    for name in ("file_bytes", "pixels", "files"):
        assert getattr(limits, name) == getattr(command_line, name)


def test_limits_are_stated_and_enforced(strict, make_png):
    assert strict.get("/v1/model").json()["limits"]["pixels"] == 20_000
    too_many_pixels = strict.post("/v1/predict", files={"files": ("wide.png", make_png(100, 300))})
    assert (too_many_pixels.status_code, too_many_pixels.json()["error"]["code"]) == (413, "too-large")
    too_large = strict.post("/v1/predict", files={"files": ("long.png", b"\x89PNG" + bytes(60_000))})
    assert too_large.status_code == 413
    assert "long.png: the file is larger than 50,000 bytes" in too_large.json()["error"]["message"]
    too_many = strict.post("/v1/predict", files=[("files", (f"{n}.png", make_png())) for n in range(3)])
    assert (too_many.status_code, too_many.json()["error"]["code"]) == (413, "too-many")
    too_long = strict.post(
        "/v1/predict", files=[("files", ("a", bytes(49_000))), ("files", ("b", bytes(49_000)))]
    )
    assert too_long.status_code == 413
    assert "The request is larger than" in too_long.json()["error"]["message"]


def test_a_body_without_a_length_is_refused_once_it_is_too_large(strict):
    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
        for _ in range(100):
            yield bytes(4_000)

    response = strict.post("/v1/predict", content=endless(), headers={"content-type": FORM})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 400),
        (b"no boundary in here", FORM, 400),
        (b"--b--\r\n", FORM, 422),
        (PART % b"other" + b"\r\n--b--\r\n", FORM, 422),
        (PART % b"files", FORM, 400),
    ],
)
def test_a_body_that_is_not_a_form_with_files_is_refused(client, content, content_type, status):
    response = client.post("/v1/predict", content=content, headers={"content-type": content_type})
    assert response.status_code == status
    assert response.json()["error"]["message"]


class StoppingRequest:
    """A request whose body stops after a first part: it never continues, or the client disconnects."""

    def __init__(self, disconnects):
        self.headers, self._disconnects = {"content-type": FORM}, disconnects

    async def stream(self):
        yield PART % b"files"
        if self._disconnects:
            raise ClientDisconnect
        await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("disconnects", "status", "code"), [(False, 408, "slow"), (True, 400, "disconnected")]
)
def test_an_upload_that_stops_is_refused_and_no_longer_held(disconnects, status, code):
    uploads = Uploads(ServiceLimits(seconds=0.1))

    async def receive():
        async with uploads.files(StoppingRequest(disconnects), "files", 2):
            pass

    with pytest.raises(ServiceError) as error:
        asyncio.run(receive())
    assert (error.value.status, error.value.code) == (status, code)
    assert uploads.bytes_held == 0


def test_nothing_uploaded_reaches_a_file_or_a_log(client, radiographs, make_png, monkeypatch, caplog, capfd):
    def no_files(*_, **__):
        raise AssertionError("an upload was written to a temporary file")

    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, no_files)
    caplog.set_level(logging.DEBUG)
    large = make_png(1200, 1200)  # Starlette would spool it
    assert len(large) > 2**20
    assert client.post("/v1/predict", files={"files": ("large.png", large)}).status_code == 200
    whole = radiographs["chest.dcm"].read_bytes()
    answers = [client.post("/v1/predict", files={"files": ("Secretname.dcm", whole)})]
    answers += [
        client.post("/v1/predict", files={"files": ("chest.dcm", whole[:cut])}) for cut in (300, 900, 60_000)
    ]
    assert answers[0].status_code == 200
    assert all(400 <= answer.status_code < 500 for answer in answers[1:])
    output = caplog.text + "".join(capfd.readouterr())
    for secret in ("Secretname^Anna", "MRN-77", "19500101"):
        assert secret not in output
        assert all(secret not in answer.text for answer in answers)
    assert "Secretname" not in output
