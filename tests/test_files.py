"""A file is there whole or not at all, and nothing of the user's is written to on the way."""

import sys

import pytest

from headstart.errors import OutputError
from headstart.files import Output, check_new, output_file, writing


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    target = tmp_path / "rows.csv"
    with output_file(target, overwrite=False) as file:
        file.write(b"whole")
        assert not target.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"] and target.read_bytes() == b"whole"


def test_two_that_write_one_file_share_nothing_and_the_first_stays(tmp_path):
    target = tmp_path / "rows.csv"
    with pytest.raises(OutputError, match="is there already; name another file, or add --overwrite") as raised:
        with output_file(target, overwrite=False) as first:
            with output_file(target, overwrite=False) as second:
                first.write(b"first")
                second.write(b"second")
            assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"second"
    (part,) = tmp_path.glob("*.partial")
    assert part.read_bytes() == b"first" and raised.value.__notes__ == [f"what was written so far is in {part}"]


def test_the_name_stays_free_of_others_where_a_disk_has_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    target = tmp_path / "rows.csv"
    with output_file(target, overwrite=False) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"
    with pytest.raises(OutputError, match="is there already"):
        check_new(target, overwrite=False)


def test_a_file_is_replaced_where_that_is_asked_for(tmp_path):
    target = tmp_path / "rows.csv"
    target.write_bytes(b"old")
    with output_file(target, overwrite=True) as file:
        assert target.read_bytes() == b"old"
        file.write(b"new")
    assert target.read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_what_an_exception_leaves_is_kept_unless_it_is_nothing(tmp_path):
    for content in (b"", b"half"):
        with pytest.raises(KeyboardInterrupt) as raised, output_file(tmp_path / "rows.csv", overwrite=False) as file:
            file.write(content)
            raise KeyboardInterrupt
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == b"half" and str(part) in raised.value.__notes__[0]


def test_a_name_as_long_as_the_system_allows_has_room_for_its_part(tmp_path):
    target = tmp_path / ("\u00e4" * 120 + ".csv")
    with output_file(target, overwrite=False) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["nowhere/rows.csv", "a\0b.csv"])
def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path, name):
    with pytest.raises(OutputError, match="cannot be written"), output_file(tmp_path / name, overwrite=False):
        pytest.fail("it cannot be opened")


def test_a_link_to_nothing_is_a_file_that_is_there(tmp_path):
    try:
        (tmp_path / "rows.csv").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this user may make no links")
    with pytest.raises(OutputError, match="is there already"):
        check_new(tmp_path / "rows.csv", overwrite=False)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_stream_that_is_full_says_what_cannot_be_written():
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OutputError, match="the rows cannot be written: No space"),
    ):
        Output(full, "the rows").write(b"row")


def test_a_closed_pipe_stays_one():
    with pytest.raises(BrokenPipeError), writing("the rows"):
        raise BrokenPipeError
