import pytest
from fastapi.testclient import TestClient

from hilum.service.app import make_app

TOKEN = "a-token-of-some-length-ß"


def client_of(reader, host="127.0.0.1:8000", **options):
    return TestClient(make_app(reader, **options), base_url=f"http://{host}")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1234", "[::1]:8000"])
def test_loopback_names_are_answered(reader, host):
    assert client_of(reader).get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "127.0.0.1.attacker.example", "10.0.0.7:8000", "", "[", "localhost@x.example"],
)
def test_other_host_names_are_refused(reader, host):
    response = client_of(reader).get("/v1/model", headers={"host": host})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "https://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused(reader, headers, status):
    response = client_of(reader).get("/v1/model", headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_a_link_on_another_site_opens_the_page(reader):
    assert client_of(reader).get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Basic " + TOKEN, 401),
        (TOKEN, 401),
        ("Bearer " + TOKEN, 200),
        ("bearer  " + TOKEN, 200),
    ],
)
def test_protected_paths_need_the_token(reader, sent, status):
    client = client_of(reader, host="reader.example", token=TOKEN, loopback_only=False)
    headers = {} if sent is None else {"authorization": sent.encode()}
    for address in ("/v1/model", "/metrics"):
        response = client.get(address, headers=headers)
        assert response.status_code == status
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "token"
    for address in ("/", "/healthz", "/openapi.json"):
        assert client.get(address).status_code == 200


def test_openapi_states_what_needs_the_token(reader):
    openapi = client_of(reader, token=TOKEN).get("/openapi.json").json()
    assert openapi["paths"]["/v1/predict"]["post"]["security"] == [{"token": []}]
    assert "security" not in openapi["paths"]["/healthz"]["get"]
    assert "security" not in client_of(reader).get("/openapi.json").json()["paths"]["/v1/predict"]["post"]


def test_requests_are_counted_by_route_and_status(reader):
    client = client_of(reader)
    client.get("/healthz")
    client.get("/page/a-secret-name")
    text = client.get("/metrics").text
    assert 'hilum_requests_total{endpoint="/healthz",status="200"} 1.0' in text
    assert 'hilum_requests_total{endpoint="/page/{name}",status="404"} 1.0' in text
    assert 'hilum_images_total{outcome="refused"} 0.0' in text
    assert "secret" not in text
