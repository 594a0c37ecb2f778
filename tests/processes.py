"""`gfn-design` in processes of their own, which begin in no time: torch is imported once."""

import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gfn_design.runs.train", "matplotlib.figure", "logomaker"])


def _main(arguments, folder, output, variables):
    os.setsid()
    os.chdir(folder)
    os.environ.update(variables)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(handle, stream)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
    if limit := variables.get("TEST_FILE_BYTES"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    import torch

    from gfn_design.__main__ import main

    torch.set_num_threads(1)
    sys.exit(main([str(x) for x in arguments]))


class Command:
    """A command that has been started.

    Args:
        arguments: Of ``gfn-design``.
        folder: Where it is called, and where ``output.txt`` takes what it prints.
        **variables: Of its environment.
    """

    def __init__(self, *arguments, folder, **variables):
        self.output = Path(folder, "output.txt")
        given = (arguments, str(folder), str(self.output), variables)
        self.process = PROCESSES.Process(target=_main, args=given)
        self.process.start()

    @property
    def said(self):
        """What it has printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def wait(self, seconds=120):
        """Its exit code, negative if a signal ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"still running after {seconds} s: {self.said}")
        return self.process.exitcode

    def wait_for(self, condition, seconds=60):
        """Until something is so, while it runs."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.exitcode is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"ended, or too late: {self.said}")
            time.sleep(0.01)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def run(*arguments, folder, **variables):
    """The exit code of a command, and what it said."""
    command = Command(*arguments, folder=folder, **variables)
    code = command.wait()
    return code, command.said
