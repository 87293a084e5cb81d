"""Opens the engine that runs a network: OpenVINO, or torch for an NVIDIA GPU."""

from __future__ import annotations

from typing import TypeAlias

from headstart.engines.hardware import Hardware
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.torch_engine import TorchEngine, log
from headstart.errors import MissingExtra

Engine: TypeAlias = OpenVINOEngine | TorchEngine


def open_engine(network: bytes, hardware: Hardware = Hardware()) -> Engine:
    """Open the engine for a device; a network with an operation that torch does not have runs on the CPU, with a warning.

    Raises MissingExtra where torch is wanted and not installed, BackboneError where there is no such device.
    """
    if hardware.torch_device is None:
        return OpenVINOEngine(network, hardware)
    try:
        from headstart.engines.torch_graph import UnknownOperation
    except ImportError as error:
        raise MissingExtra(f"the device {hardware.device}", "torch") from error
    try:
        return TorchEngine(network, hardware)
    except UnknownOperation as error:
        log.warning("this backbone cannot run on %s, for lack of %s; it runs on the CPU", hardware.device, error)
        return OpenVINOEngine(network, Hardware(threads=hardware.threads, precision=hardware.precision))
