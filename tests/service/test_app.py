import json

from fastapi.testclient import TestClient

from hilum.service.app import make_app


def test_pages_have_security_headers_and_no_inline_code(client):
    page = client.get("/")
    assert "Research use only" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert "//" not in page.text.replace("http://www.w3.org", "")
    assert client.get("/page/predict_page.js").headers["content-type"].startswith("text/javascript")


def test_unknown_addresses_and_methods_are_errors(client):
    for address in (
        "/page/nothing.js",
        "/page/predict_page.html",
        "/page/..%2F..%2Freader.py",
        "/runs",
        "/v1/runs",
        "/x",
    ):
        missing = client.get(address)
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "not-found"
    wrong_method = client.get("/v1/predict")
    assert wrong_method.status_code == 405
    assert wrong_method.json()["error"]["code"] == "method"


def test_all_files_that_the_pages_name_exist(runs_folder, new_reader):
    app = make_app(runs_folder, open_reader=lambda path: new_reader(path.name))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for address in ("/", "/runs"):
            text = client.get(address).text
            names = [part.split('"')[0] for part in text.split("/page/")[1:]]
            assert len(names) >= 4
            for name in names:
                assert client.get(f"/page/{name}").status_code == 200, name


def test_openapi_has_examples_and_every_error(client):
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/v1/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"413", "415", "422", "503"} <= set(predict["responses"])
    assert schema["components"]["schemas"]["Prediction"]["examples"]
    assert "Research use only" in schema["info"]["summary"]
    assert "cdn" not in json.dumps(schema)


def test_health_needs_no_model(client):
    assert client.get("/healthz").json() == {"status": "ok"}
