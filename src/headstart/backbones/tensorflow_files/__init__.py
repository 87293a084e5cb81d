"""Backbones from TensorFlow's files: converts SavedModel folders, frozen graphs, .tflite and .keras to ONNX."""
