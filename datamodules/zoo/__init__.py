"""Datamodule of networks as data: generates zoos of trained networks, and reads them."""

from datamodules.zoo.network_zoo import ZooOptions

__all__ = ["ZooOptions"]
