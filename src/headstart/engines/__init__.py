"""Runs one network on many threads: OpenVINO on CPUs, torch on NVIDIA GPUs."""
