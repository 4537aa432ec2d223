"""A pytest plugin: nbval's kernels are forked from a process that has imported the libraries already.

Loading torch, transformers and sentence-transformers takes longer than many a page does. Each kernel is still a process
of its own in which nothing has happened but imports; `multiprocessing`'s fork server starts it."""
from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import time
from multiprocessing.process import BaseProcess
from typing import Any

sys.modules.setdefault("rfc3987_syntax", None)  # as in conftest.py, before nbval loads nbformat
from jupyter_client.provisioning import local_provisioner  # noqa: E402

LOADED = ["ipykernel.kernelapp", "sentence_transformers", "ragcun.models.encoder", "ragcun.retrieval.retriever",
          "ragcun.training.run"]


def run(command: list[str], cwd: str | None, env: dict[str, str]) -> None:
    "In the new process: what `python -m ipykernel_launcher ARGUMENTS` does."
    from ipykernel.kernelapp import launch_new_instance
    os.setsid()
    os.chdir(cwd or ".")
    os.environ.clear()
    os.environ.update(env, JPY_PARENT_PID=str(os.getppid()))  # the kernel ends when its parent does
    with open(os.devnull, "r+b") as nothing:
        for stream in (0, 2):
            os.dup2(nothing.fileno(), stream)
    launch_new_instance(command[command.index("ipykernel_launcher") + 1:])


class Kernel:
    "What jupyter_client asks of a `subprocess.Popen`."
    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess):
        self.process, self.pid, self.kill, self.terminate = process, process.pid, process.kill, process.terminate

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def launch_kernel(cmd: list[str], cwd: str | None = None, env: dict[str, str] | None = None, **streams: Any) -> Kernel:
    "In place of jupyter_client's function of this name."
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(LOADED)
    process = server.Process(target=run, args=(cmd, cwd, env or dict(os.environ)))
    process.start()
    while process.is_alive() and os.getpgid(process.pid) != process.pid:  # else its signals reach pytest's group
        time.sleep(.01)
    atexit.register(process.kill)  # nbval leaves the last one running, and multiprocessing would wait for it
    return Kernel(process)


local_provisioner.launch_kernel = launch_kernel
