"""Page of all pictures of a network: one HTML file that needs nothing else."""

import base64
import json
import sys
from importlib import resources
from pathlib import Path

from callbacks.picture_logger import INDEX
from tabattn.contract.extras import remedy
from tabattn.storage.files import write_file

GROUPS = ("calibration", "precision_recall", "predictions", "inference", "outputs", "attention", "heads", "tsne")
"""Groups of pictures in their order on the page; others follow."""
PAGE = "index.html"


def write_page(folder: Path, title: str) -> list[Path]:
    """Write the page of the pictures in a folder; without jinja2 none, which is said in one line.

    Args:
        folder: Folder with ``look.json`` and the pictures that it lists.
        title: Heading of the page.

    Returns:
        Paths of all files, the page first.
    """
    found = json.loads((folder / INDEX).read_text())
    files = [folder / path for path in found["pictures"].values()]
    try:
        import jinja2
    except ImportError:
        sys.stderr.write(f"pictures alone: the page needs jinja2: {remedy('jinja2')}\n")
        return [*files, folder / INDEX]
    groups: dict[str, list[tuple[str, str]]] = {}
    for tag, path in found["pictures"].items():
        group, _, name = tag.partition("/")
        picture = base64.b64encode((folder / path).read_bytes()).decode()
        groups.setdefault(group, []).append((name or group, picture))
    order = {group: place for place, group in enumerate(GROUPS)}
    source = resources.files("tabattn.look").joinpath("page.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    text = template.render(
        title=title,
        groups=sorted(groups.items(), key=lambda each: (order.get(each[0], len(order)), each[0])),
        scalars=sorted(found["scalars"].items()),
        texts=found["texts"],
    )
    write_file(folder / PAGE, text.encode())
    return [folder / PAGE, *files, folder / INDEX]
