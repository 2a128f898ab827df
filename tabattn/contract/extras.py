"""Optional packages, and the extra of this one that brings each."""

EXTRAS = {
    "schedulefree": "optim",
    "pytorch_optimizer": "optim",
    "pyarrow": "parquet",
    "tabicl": "priors",
    "xgboost": "priors",
    "rich": "cli",
    "adasplash": "gpu",
    "transformers": "mlm",
    "optuna": "sweep",
}
"""Name of an extra in ``setup.cfg``, by the module that it brings."""


def remedy(module: str | None) -> str | None:
    """The command that installs a missing module, for the end of a message; None where no extra brings it."""
    extra = EXTRAS.get((module or "").partition(".")[0])
    return None if extra is None else f"pip install 'tabattn[{extra}]'"


def missing(ex: BaseException | None) -> str | None:
    """Say in one line which optional package an exception is about; None where about none.

    Libraries may raise errors of their own for one that they miss, which name it in the text.
    """
    while ex is not None:
        words = str(ex).replace("`", " ").replace("'", " ").replace("[", " ").split()
        names = [ex.name] if isinstance(ex, ImportError) and ex.name else []
        if isinstance(ex, ImportError) and (name := next((word for word in [*names, *words] if remedy(word)), None)):
            return f"the package {name.partition('.')[0]} is missing: {remedy(name)}"
        ex = ex.__cause__
    return None
