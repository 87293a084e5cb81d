"""A file is there whole or not at all, and nothing of the user's is written to on the way."""

import os
import subprocess
import sys

import pytest

from headstart.errors import OutputError
from headstart.files import Output, check_output, locked, output_file, writing


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
        check_output(target, overwrite=False)


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


@pytest.mark.parametrize("kind", ["folder", "pipe", "below a file", "read-only"])
def test_a_place_that_no_file_can_have_is_refused_before_any_work(tmp_path, kind, monkeypatch):
    place = tmp_path / "rows.csv"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes")
        os.mkfifo(place)
    elif kind == "below a file":
        place.write_text("precious")
        place /= "rows.csv"
    else:
        monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=r"rows\.csv (is a folder|is a pipe or a device|cannot be written)"):
        check_output(place, overwrite=True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="a link is a matter of rights")
def test_a_link_is_replaced_by_the_file_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "precious.csv").write_text("precious")
    (tmp_path / "rows.csv").symlink_to("precious.csv")
    with output_file(tmp_path / "rows.csv", overwrite=True) as file:
        file.write(b"new")
    assert not (tmp_path / "rows.csv").is_symlink() and (tmp_path / "precious.csv").read_text() == "precious"


def test_a_link_to_nothing_is_a_file_that_is_there(tmp_path):
    try:
        (tmp_path / "rows.csv").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this user may make no links")
    with pytest.raises(OutputError, match="is there already"):
        check_output(tmp_path / "rows.csv", overwrite=False)


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


def test_one_at_a_time_holds_a_lock_and_nothing_is_left_of_it(tmp_path):
    lock = tmp_path / "lock"
    with locked(lock) as is_first:
        with locked(lock) as is_second:
            assert is_first and not is_second
        assert lock.exists()
    assert not lock.exists()
    with locked(lock) as is_ours:
        assert is_ours


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    lock = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path; from headstart.files import locked; held = locked(Path(sys.argv[1]));"
        "print(held.__enter__(), flush=True); sys.stdin.read(); os._exit(9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with locked(lock) as is_ours:
        assert not is_ours
    process.communicate()
    assert process.returncode == 9 and lock.exists()
    with locked(lock) as is_ours:
        assert is_ours
    assert not lock.exists()


@pytest.mark.skipif(os.name != "posix", reason="an open file is removed as POSIX does")
def test_a_lock_that_was_removed_while_another_waited_is_taken_anew(tmp_path, monkeypatch):
    import fcntl

    lock, flock, calls = tmp_path / "lock", fcntl.flock, []

    def removed_meanwhile(file, how):
        if not calls:
            lock.unlink()
        calls.append(file)
        flock(file, how)

    monkeypatch.setattr("fcntl.flock", removed_meanwhile)
    with locked(lock) as is_ours:
        assert is_ours and lock.exists() and len(calls) == 2


@pytest.mark.skipif(os.name != "posix", reason="locks are taken as POSIX does")
def test_a_disk_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path / "lock") as is_first, locked(tmp_path / "lock") as is_second:
        assert is_first and is_second
