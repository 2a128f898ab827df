"""Two machines of one training, stood for by two calls of torchrun on this one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.test_ddp import ONE, PAIRS, ROOT, last, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NODES = ["--trainer.strategy=ddp", "--trainer.num_nodes=2", "--trainer.devices=1"]
STEPS = ["--trainer.check_val_every_n_epoch=1", "--trainer.max_steps=8"]


def start(folder: Path, port: int, *words: str) -> list[subprocess.Popen[str]]:
    """Start torchrun twice."""
    config, *flags = PAIRS
    fit = [str(ROOT / "train.py"), "fit", "--config", str(ROOT / "configs" / config), *flags, *NODES, *words]
    fit += ["--optimizer=SGD", "--optimizer.lr=0.1", "--lr_scheduler=null", "--trainer.accelerator=cpu"]
    fit += ["--trainer.gradient_clip_val=0", "--trainer.enable_progress_bar=false"]
    fit += [f"--run.root={folder}", "--run.name=run", "--run.version=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    call += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    return [
        subprocess.Popen(
            [*call, f"--node-rank={rank}", *fit],
            **{"cwd": folder, "env": environment},
            **{"text": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE},
        )
        for rank in (0, 1)
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the last checkpoint."""
    found: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return found


def test_two_nodes_train_as_one_process(tmp_path: Path) -> None:
    """And go on, after one was killed, to the same end."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = run(tmp_path / "one", "fit", *STEPS, *ONE, task=PAIRS)
    nodes = start(tmp_path / "two", 29517, "--trainer.max_epochs=-1", "--trainer.check_val_every_n_epoch=1")
    two = tmp_path / "two" / "run" / "0"
    while not (two / "checkpoints" / "last.ckpt").exists():
        assert [node.poll() for node in nodes] == [None, None]
        time.sleep(0.05)
    killed = torch.load(two / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    for number in (
        nodes[1].pid,
        *map(int, Path(f"/proc/{nodes[1].pid}/task/{nodes[1].pid}/children").read_text().split()),
    ):
        os.kill(number, signal.SIGKILL)
    _, errors = nodes[0].communicate(timeout=300)
    assert nodes[0].returncode != 0
    assert "error: another process of the run has ended\n" in errors
    nodes[1].communicate()
    steps = max(8, killed // 4 * 4 + 8)
    checkpoint = two / "checkpoints" / "last.ckpt"
    again = start(tmp_path / "two", 29518, *STEPS[:1], f"--trainer.max_steps={steps}", f"--ckpt_path={checkpoint}")
    for node in again:
        assert node.communicate(timeout=600)[1] is not None
        assert node.returncode == 0
    if steps > 8:
        (tmp_path / "longer").mkdir()
        one = run(tmp_path / "longer", "fit", STEPS[0], f"--trainer.max_steps={steps}", *ONE, task=PAIRS)
    expected, found = weights(one), weights(two)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    assert last(two, "val/") == pytest.approx(last(one, "val/"), rel=1e-4)
