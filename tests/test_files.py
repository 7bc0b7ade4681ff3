import hashlib
import importlib.util
import json
import pickle
import subprocess
import sys

import pytest

from hilum.errors import HilumError
from hilum.files import (
    Bucket,
    Folder,
    holds_complete,
    locked,
    replacing,
    replacing_folder,
    sha256_of_file,
    storage_at,
    whole_folder,
    write_json,
)

#: A script that ends its process right after the given number of renames.
KILLED_WHILE_REPLACING = """
import os, sys
from pathlib import Path
from hilum.files import replacing, replacing_folder

path, what, renames = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rename, done = Path.replace, 0

def rename_and_die(self, target):
    global done
    rename(self, target)
    done += 1
    if done == renames:
        os._exit(9)

Path.replace = rename_and_die
if what == "file":
    with replacing(path) as partial:
        partial.write_text("new")
        if not renames:
            os._exit(9)
else:
    with replacing_folder(path) as partial:
        (partial / "content").write_text("new")
        if not renames:
            os._exit(9)
"""


def kill_while_replacing(path, what, renames):
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_REPLACING, str(path), what, str(renames)], check=False
    )
    assert done.returncode == 9


def fill(folder, text):
    with replacing_folder(folder) as partial:
        (partial / "content").write_text(text)


def test_a_file_and_its_folders_are_created(tmp_path):
    path = tmp_path / "a" / "b" / "table.csv"
    with replacing(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".csv"
        assert not path.exists()
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_a_failing_block_leaves_only_the_previous_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")

    def write_and_fail():
        with replacing(path) as partial:
            partial.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_kill_while_writing_leaves_the_previous_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    kill_while_replacing(path, "file", renames=0)
    assert path.read_text() == "old"


def test_a_folder_is_replaced_completely(tmp_path):
    folder = tmp_path / "last"
    with replacing_folder(folder) as partial:
        (partial / "old only").write_text("")
    fill(folder, "new")
    assert [entry.name for entry in folder.iterdir()] == ["content"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["last"]


def test_a_failing_block_leaves_the_previous_folder(tmp_path):
    folder = tmp_path / "last"
    fill(folder, "old")

    def fill_and_fail():
        with replacing_folder(folder) as partial:
            (partial / "content").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fill_and_fail()
    assert (whole_folder(folder) / "content").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize(("renames", "content"), [(0, "old"), (1, "old"), (2, "new")])
def test_after_a_kill_at_any_rename_the_whole_folder_is_found_and_can_be_replaced(tmp_path, renames, content):
    folder = tmp_path / "last"
    fill(folder, "old")
    kill_while_replacing(folder, "folder", renames)
    assert folder.exists() == (renames != 1)
    assert (whole_folder(folder) / "content").read_text() == content

    fill(folder, "newer")
    assert (whole_folder(folder) / "content").read_text() == "newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["last"]


def test_a_failure_after_a_kill_between_the_renames_still_keeps_the_old_content(tmp_path):
    folder = tmp_path / "last"
    fill(folder, "old")
    kill_while_replacing(folder, "folder", renames=1)
    kill_while_replacing(folder, "folder", renames=0)
    assert (whole_folder(folder) / "content").read_text() == "old"


def test_a_folder_that_was_never_written_keeps_its_path(tmp_path):
    assert whole_folder(tmp_path / "none") == tmp_path / "none"


def test_sha256_covers_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hilum" * 100_000)
    assert sha256_of_file(path) == hashlib.sha256(b"hilum" * 100_000).hexdigest()


def test_json_is_written_atomically(tmp_path):
    write_json(tmp_path / "new" / "run.json", {"a": [1, None]})
    assert json.loads((tmp_path / "new" / "run.json").read_text()) == {"a": [1, None]}
    with pytest.raises(TypeError):
        write_json(tmp_path / "new" / "run.json", {"a": object()})
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["run.json"]
    assert json.loads((tmp_path / "new" / "run.json").read_text()) == {"a": [1, None]}


def test_a_lock_is_exclusive_and_leaves_no_file(tmp_path):
    with locked(tmp_path / ".lock", "busy"):
        with pytest.raises(HilumError, match="busy"), locked(tmp_path / ".lock", "busy"):
            pytest.fail("two blocks hold the lock")
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock"):
        pass


def test_a_folder_stores_and_returns_files(tmp_path):
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


def test_a_bucket_is_not_connected_before_its_first_use():
    bucket = storage_at("s3://bucket/name/", {"endpoint_url": "http://127.0.0.1:9"})
    assert isinstance(bucket, Bucket)
    assert str(bucket) == "s3://bucket/name"
    copy = pickle.loads(pickle.dumps(bucket))
    assert (copy.url, copy.storage_options) == (bucket.url, bucket.storage_options)


def test_given_options_of_the_client_go_before_the_defaults():
    pytest.importorskip("boto3", reason="boto3 is not installed: pip install hilum[shards]")
    from botocore.config import Config

    from hilum.files import _s3_client

    region = {"region_name": "us-east-1"}
    default = _s3_client(region).meta.config
    assert default.retries["total_max_attempts"] < 10
    given = _s3_client(region | {"config": Config(connect_timeout=3)}).meta.config
    assert given.connect_timeout == 3 != default.connect_timeout


def test_the_package_that_gs_needs_is_named(tmp_path):
    if importlib.util.find_spec("google") and importlib.util.find_spec("google.cloud.storage"):
        pytest.skip("google-cloud-storage is installed")
    with pytest.raises(HilumError, match="pip install google-cloud-storage"):
        storage_at("gs://bucket/name").has("file")


def test_a_folder_holds_a_complete_pack_once_its_record_is_written(tmp_path):
    folder = tmp_path / "pack"
    assert not holds_complete(folder, "pack", {"width": 32})
    write_json(folder / "pack.started.json", {"width": 32})
    assert not holds_complete(folder, "pack", {"width": 32})
    write_json(folder / "pack.json", {"width": 32, "images": 5})
    assert holds_complete(folder, "pack", {"width": 32})
    with pytest.raises(HilumError, match="another pack, with width 32, not 64"):
        holds_complete(folder, "pack", {"width": 64})
    with pytest.raises(HilumError, match=r"is not empty and is not a phantom \(it has no phantom.json\)"):
        holds_complete(folder, "phantom", {"width": 32})
