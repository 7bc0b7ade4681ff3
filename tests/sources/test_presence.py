from hilum.sources.presence import absent


def test_files_are_found_whatever_their_folder_and_address(tmp_path):
    (tmp_path / "a" / "folder.png").mkdir(parents=True)
    for name in ("top.png", "a/1.png", "a/stack.npy"):
        (tmp_path / name).touch()
    paths = ["top.png", "a/1.png", "a/1.png#window=0,9", "a/stack.npy#3"]
    assert absent(tmp_path, paths).tolist() == [False] * 4
    missing = ["a/2.png", "b/1.png", "1.png", "a/folder.png", "A/1.png"]
    assert absent(tmp_path, missing).tolist() == [True] * 5
    assert absent(tmp_path, []).tolist() == []
