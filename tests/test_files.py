"""Files are whole or not there."""

import os
import stat

import pytest

from hfprobe.files import whole_file, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = write_whole(tmp_path / "sub" / "a.csv", "old\r\n")
    with pytest.raises(RuntimeError), whole_file(target) as place:
        place.write_text("half")
        assert target.read_bytes() == b"old\r\n"
        raise RuntimeError
    assert target.read_bytes() == b"old\r\n" and len(os.listdir(target.parent)) == 1


def test_the_temporary_name_lies_beside_and_keeps_the_suffix(tmp_path):
    with whole_file(tmp_path / "x.tar.npz") as place:
        assert place.parent == tmp_path and place.suffix == ".npz" and place.name != "x.tar.npz"
        place.write_bytes(b"1")
    assert (tmp_path / "x.tar.npz").read_bytes() == b"1"


def test_others_may_read_what_was_written(tmp_path):
    mask = os.umask(0o022)
    try:
        path = write_whole(tmp_path / "x.json", b"{}")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
