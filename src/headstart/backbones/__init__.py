"""Pretrained networks: any source (built in, ONNX, timm, the Hugging Face hub, TensorFlow) to one standard form."""
