"""FedNet: federated learning over its own asyncio protocol; knows tensors, never images or architectures."""

__version__ = "0.1.0"
