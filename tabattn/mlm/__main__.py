"""``python -m tabattn.mlm CHECKPOINT FOLDER``: a masked language model as a folder of ``transformers``."""

import argparse
import sys
from collections.abc import Sequence

from tabattn.contract.errors import DataError
from tabattn.mlm.task import MaskedLanguageModel


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder.

    Returns:
        Exit status: 0 done, 2 wrong use, 3 a file that cannot be read or written.
    """
    parser = argparse.ArgumentParser("python -m tabattn.mlm", description=__doc__)
    parser.add_argument("checkpoint", help="checkpoint of the task")
    parser.add_argument("folder", help="folder to make")
    parser.add_argument("--tokenizer", help="folder of the tokenizer, as a training prints it; none = without")
    given = parser.parse_args(argv)
    try:
        task = MaskedLanguageModel.load_from_checkpoint(given.checkpoint, map_location="cpu")
        task.save_folder(given.folder, given.tokenizer)
    except (ValueError, OSError, DataError) as ex:
        sys.stderr.write(f"error: {ex}\n")
        return 2 if isinstance(ex, ValueError) else 3
    sys.stdout.write(f"{given.folder}: {task.network.config['model_type']}, as transformers reads it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
