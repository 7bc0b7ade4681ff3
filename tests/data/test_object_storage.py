import importlib.util
import pickle

import pytest

from hilum.data.object_storage import Bucket, Folder, storage_at
from hilum.errors import HilumError


def test_a_folder_takes_and_gives_files(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    folder = storage_at(tmp_path / "new" / "folder")
    assert isinstance(folder, Folder)
    assert not folder.has("name")
    folder.send(tmp_path / "file", "name")
    assert folder.has("name")
    folder.fetch("name", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"
    with pytest.raises(FileNotFoundError):
        folder.fetch("other", tmp_path / "back")


def test_a_bucket_is_not_connected_before_it_is_asked():
    pytest.importorskip("litdata", reason="litdata is not installed: pip install hilum[shards]")
    bucket = storage_at("s3://bucket/name/", {"endpoint_url": "http://127.0.0.1:9"})
    assert isinstance(bucket, Bucket)
    assert str(bucket) == "s3://bucket/name"
    copy = pickle.loads(pickle.dumps(bucket))
    assert (copy.url, copy.storage_options) == (bucket.url, bucket.storage_options)


def test_the_clouds_own_options_go_before_ours():
    pytest.importorskip("litdata", reason="litdata is not installed: pip install hilum[shards]")
    assert Bucket("s3://bucket/name")._client_options()["config"].retries["total_max_attempts"] < 10
    assert Bucket("s3://bucket/name", {"config": "own"})._client_options() == {"config": "own"}
    assert Bucket("gs://bucket/name")._client_options() == {}


def test_the_package_that_gs_needs_is_named(tmp_path):
    pytest.importorskip("litdata", reason="litdata is not installed: pip install hilum[shards]")
    if importlib.util.find_spec("google") and importlib.util.find_spec("google.cloud.storage"):
        pytest.skip("google-cloud-storage is installed")
    with pytest.raises(HilumError, match="pip install google-cloud-storage"):
        storage_at("gs://bucket/name").has("file")
