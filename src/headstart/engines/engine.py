"""Opens the engine that runs a network: OpenVINO, or torch for an NVIDIA GPU."""

from __future__ import annotations

from typing import TypeAlias

from headstart.engines.hardware import Hardware, is_torch_device
from headstart.engines.openvino_engine import OpenVINOEngine
from headstart.engines.torch_engine import TorchEngine, log
from headstart.errors import MissingExtra

Engine: TypeAlias = OpenVINOEngine | TorchEngine


def open_engine(network: bytes, hardware: Hardware = Hardware()) -> Engine:
    """The engine for a device; a network with an operation that torch is not trusted with runs on the CPU, and says so.

    Raises MissingExtra where torch is wanted and not installed, BackboneError where there is no such device.
    """
    if not is_torch_device(hardware.device):
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
