"""The workspace: it times the stages, reports them, and holds on to the images that were computed first."""

import pytest

from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace, check_readable
from headstart.engines.hardware import Hardware
from headstart.errors import DataError, HeadstartError
from support.photos import write_photos


@pytest.fixture
def images(tmp_path):
    return sorted(map(str, write_photos(tmp_path / "photos", n=2).rglob("*.png")))


@pytest.fixture
def workspace(tmp_path):
    with Workspace(tmp_path / "cache", Hardware(threads=1)) as workspace:
        yield workspace


def test_stages_are_timed_and_reported_in_order(tmp_path):
    events = []
    with Workspace(tmp_path, Hardware(), progress=lambda *event: events.append(event)) as workspace:
        with workspace.stage("list"):
            pass
        with pytest.raises(HeadstartError), workspace.stage("codes"):
            raise HeadstartError("no")
    assert list(workspace.seconds) == ["list"]  # a stage that failed has no time
    assert events == [("list", 0, 0), ("list", 1, 1), ("codes", 0, 0), ("codes", 1, 1)]


def test_codes_are_computed_once(workspace, tiny, images):
    first = workspace.represent(images, Representation((tiny,)))
    again = workspace.represent(images, Representation((tiny,)))
    assert (first.n_computed, again.n_computed) == (6, 0)
    assert (first.values == again.values).all() and first.digests == again.digests


def test_an_image_that_changed_or_went_meanwhile_stops_it(workspace, tiny, images):
    representation = Representation((tiny,))
    digests = workspace.represent(images, representation).digests
    assert len(workspace.represent_again(images, digests, representation, during="x").values) == 6
    with pytest.raises(DataError, match="changed while the training ran"):
        workspace.represent_again(images, digests[::-1], representation, during="the training ran")
    with pytest.raises(DataError, match="could be used a moment ago"):
        workspace.represent_again([*images[:-1], "gone.png"], digests, representation, during="the training ran")


def test_nothing_but_broken_files_is_an_error_that_names_the_first_reason(workspace, tiny, images, tmp_path):
    (tmp_path / "note.png").write_text("not a picture")
    broken = workspace.represent([str(tmp_path / "note.png")], Representation((tiny,)))
    with pytest.raises(DataError, match="none of the 1 files of photos can be used as an image; the first: .*none of JPEG"):
        check_readable(broken, 1, "photos")
    check_readable(workspace.represent(images, Representation((tiny,))), 6, "photos")
