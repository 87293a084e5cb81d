"""The versions of headstart and of the libraries that decide its answers, for run.json and for error reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("numpy", "openvino", "onnx", "opencv-python-headless", "simplejpeg", "pillow")


def versions() -> dict[str, str | None]:
    """The versions of Python, the platform and the libraries; None for a package that is not installed."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
    }


def own_version() -> str:
    """The version of headstart that is installed."""
    return _version("headstart") or "0 (not installed)"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
