import os

import pytest

from videoanalysis.atomic_write import write_atomically


def test_a_reader_that_opened_the_old_content_keeps_it(tmp_path):
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"brand new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"brand new"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "state.json").mkdir()
    with pytest.raises(OSError, match=r"state\.json"):
        write_atomically(tmp_path / "state.json", b"data")
    assert os.listdir(tmp_path) == ["state.json"]
