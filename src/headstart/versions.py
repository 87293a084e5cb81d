"""The versions of headstart and of the libraries that decide its answers, for run.json and for error reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

TOLD_VERSIONS = ("numpy", "openvino", "onnx", "opencv-python-headless", "simplejpeg", "pillow")


def versions() -> dict[str, str | None]:
    """What a run was made with; None for a package that is not there."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in TOLD_VERSIONS},
    }


def own_version() -> str:
    """The release of headstart that runs."""
    return _version("headstart") or "0 (not installed)"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
