"""pictorch: PyTorch image classification where every number has a history."""

__version__ = "0.1.0"
