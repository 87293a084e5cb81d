"""The finished classifier: one ONNX file that predicts, explains and describes itself."""
