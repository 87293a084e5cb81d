"""The versions that a run and an error report name."""

from importlib.metadata import PackageNotFoundError

from headstart import versions


def test_every_library_that_decides_answers_is_named():
    found = versions.versions()
    assert {"python", "platform", "numpy", "openvino", "onnx", "simplejpeg"} <= found.keys() and None not in found.values()
    assert versions.own_version()[0].isdigit()


def test_a_package_that_is_not_installed_is_none_and_headstart_says_so(monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", version)
    assert versions.versions()["openvino"] is None and versions.own_version() == "0 (not installed)"
