"""Trained classifiers in other formats: ONNX and torch.export."""
