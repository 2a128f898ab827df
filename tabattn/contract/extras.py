"""Optional dependencies, and the extra of this package that installs each."""

from tabattn.contract.errors import chained

EXTRAS = {
    "schedulefree": "optim",
    "pytorch_optimizer": "optim",
    "pyarrow": "parquet",
    "tabicl": "priors",
    "xgboost": "priors",
    "rich": "cli",
    "catboost": "baselines",
    "pytabkit": "baselines",
    "adasplash": "gpu",
    "torchvision": "images",
    "transformers": "mlm",
    "tokenizers": "mlm",
    "optuna": "sweep",
    "submitit": "slurm",
    "distributed": "cluster",
    "dask": "cluster",
    "pymoo": "search",
    "cmaes": "search",
    "jinja2": "report",
    "bencheval": "report",
}
"""Extra in ``setup.cfg`` by the module that it installs."""


def remedy(module: str | None) -> str | None:
    """Install command for a missing module, as the end of a message; None if no extra installs it."""
    extra = EXTRAS.get((module or "").partition(".")[0])
    return None if extra is None else f"pip install 'tabattn[{extra}]'"


def missing(ex: BaseException | None) -> str | None:
    """Name the optional dependency that an exception is about in one line; None if it is about none.

    Libraries may raise errors of their own for one that they miss, which name it in the text.
    """
    for link in chained(ex):
        words = str(link).replace("`", " ").replace("'", " ").replace("[", " ").split()
        names = [link.name] if isinstance(link, ImportError) and link.name else []
        if isinstance(link, ImportError) and (name := next((word for word in [*names, *words] if remedy(word)), None)):
            return f"the package {name.partition('.')[0]} is missing: {remedy(name)}"
    return None
