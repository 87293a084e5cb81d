"""Backbones from the Hugging Face hub: downloads ONNX files, pins them, and reads their licences and preprocessing."""
