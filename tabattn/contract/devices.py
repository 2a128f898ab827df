"""Devices by name."""

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """Resolve the name of a device; ``auto`` is a GPU if there is one.

    Raises:
        ValueError: There is no such device.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(device, (str, torch.device)):
        raise ValueError(f"device must be a name, such as 'auto', 'cpu' or 'cuda:0', got {device!r}")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as ex:
        reason = str(ex).partition("\n")[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from ex
    if found.type == "meta":
        raise ValueError("device 'meta' cannot be used: it holds no numbers")
    return found
