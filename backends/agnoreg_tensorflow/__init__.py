"""The adapter of TensorFlow, and the Array API namespace that it computes with."""

from agnoreg_tensorflow.adapter import TensorFlowBackend

backend = TensorFlowBackend()

__all__ = ["TensorFlowBackend", "backend"]
