"""A Python that has imported what our programs import: they start as forks of it, and save two seconds each.

A fork is what `python PROGRAM.py …`, `python -m MODULE …` or `python -` would be, with its own arguments, environment,
folder and files, to the end of the interpreter. What only a new interpreter shows, what its imports do or what depends
on the order of its sets, is for tests that start one. There are three: `ours`, `another` (hosts, for one, should not
share the order of their sets) and `libraries`, which has none of our modules, and takes warnings as errors.

    python tests/warm_python.py serve SOCKET NAME       # until its standard input ends
    python -IS tests/warm_python.py run SOCKET PYTHON … # `PYTHON …`; what is none of the three is run by PYTHON itself
"""

import contextlib
import functools
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile

# Bytes that a request may have: arguments and environment.
MOST = 1 << 20
# What is imported by modules of ours, as most of them load, or when they first need it.
LIBRARIES = (
    "absl.app",
    "av",
    "cv2",
    "einops",
    "etils.epath",
    "flax.nnx",
    "grain.python",
    "jax.experimental.multihost_utils",
    "jaxtyping",
    "matplotlib.pyplot",
    "ml_collections.config_flags",
    "optax",
    "orbax.checkpoint",
    "rich.console",
    "simplejpeg",
    "tensorboardX",
)
# The warnings that Python shows where nothing else was asked for.
SHOWN = ("UserWarning", "RuntimeWarning", "FutureWarning", "SyntaxWarning")


class Program:
    """A program in a fork, with what tests need of `subprocess.Popen`.

    Args:
      address: where its Python serves.
      arguments: those of `python`.
      files: the numbers of three open files, its standard ones.
    """

    def __init__(self, address: str, arguments: list[str], environment: dict, cwd: str, files: tuple[int, int, int]):
        self.returncode = None
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
        self._end.connect(address)
        request = {"arguments": arguments, "environment": environment, "cwd": cwd}
        socket.send_fds(self._end, [json.dumps(request).encode()], files)
        self.pid = int(self._end.recv(64))

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None."""
        if self.returncode is None and select.select([self._end], [], [], 0)[0]:
            self.returncode = int(self._end.recv(64))
            self._end.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when there is one."""
        if self.returncode is None and not select.select([self._end], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("python", timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


def server(environment: dict, name: str = "ours") -> str:
    """Where a Python serves that was started with such an environment: JAX's part of it is read by imports."""
    return _server(tuple(sorted((key, value) for key, value in environment.items() if key.startswith("JAX_"))), name)


@functools.cache
def _server(variables: tuple[tuple[str, str], ...], name: str) -> str:
    folder = tempfile.TemporaryDirectory()
    address = os.path.join(folder.name, "socket")
    others = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    strict = [f"-Werror::{kind}" for kind in SHOWN] if name == "libraries" else []
    serving = subprocess.Popen(
        [sys.executable, *strict, __file__, "serve", address, name],
        env=others | dict(variables),
        stdin=subprocess.PIPE,  # Ends with this process.
        stdout=subprocess.PIPE,
        start_new_session=True,  # A terminal's Ctrl-C is for whoever started this process.
    )
    assert serving.stdout.readline() == b"ready\n", f"the warm Python {name!r} did not start"
    _serving.append((serving, folder))
    return address


# Their standard inputs are open, and the folders of their sockets there, as long as they are here.
_serving: list[tuple[subprocess.Popen, tempfile.TemporaryDirectory]] = []


def _serve(address: str) -> list[str]:
    """Starts programs until standard input ends. Returns in each fork, with its program's arguments."""
    selector = selectors.DefaultSelector()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        selector.register(listening, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listening:
                    connection, _ = listening.accept()
                    request, files, _, _ = socket.recv_fds(connection, MOST, 3)
                    if not (pid := os.fork()):
                        selector.close()
                        connection.close()
                        return _become(json.loads(request), files)
                    for file in files:
                        os.close(file)
                    connection.send(str(pid).encode())
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
                elif key.data:
                    pid, connection = key.data
                    _, status = os.waitpid(pid, 0)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    with contextlib.closing(connection), contextlib.suppress(BrokenPipeError):
                        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
                else:
                    for running in selector.get_map().values():
                        if running.data:
                            os.kill(running.data[0], signal.SIGKILL)
                    os._exit(0)


def _become(request: dict, files: list[int]) -> list[str]:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    return request["arguments"]


def _preload(name: str) -> None:
    """Imports the libraries and, but for programs, our modules."""
    import gc
    import importlib
    import pkgutil

    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for library in LIBRARIES:
        importlib.import_module(library)
    if name != "libraries":
        import posmlp_jax

        for module in pkgutil.walk_packages(posmlp_jax.__path__, "posmlp_jax."):
            # A module that defines flags does so once, which is when it is run.
            if not module.name.endswith(("__main__", ".preview")):
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # Forks share what is not written to.


def _run(arguments: list[str]) -> None:
    """Runs `-m MODULE …`, `PROGRAM.py …` or, for '-', standard input as this process's own program."""
    import runpy

    first, *rest = arguments
    if first == "-m":
        module, sys.argv, sys.path[0] = rest[0], rest, os.getcwd()
        if not hasattr(sys.modules.get(module), "__path__"):  # Of a package `__main__` is run, which is not imported.
            sys.modules.pop(module, None)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    if first == "-":
        sys.path[0] = ""
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(first))
        runpy.run_path(first, run_name="__main__")


def _follow(address: str, python: str, *arguments: str) -> None:
    """Runs a program as this process would, signals and exit code included."""
    if arguments[0] not in ("-m", "-") and not arguments[0].endswith(".py"):
        os.execv(python, [python, *arguments])
    program = Program(address, list(arguments), dict(os.environ), os.getcwd(), (0, 1, 2))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: program.send_signal(number))
    if (code := program.wait()) < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _preload(sys.argv[3])
        _run(_serve(sys.argv[2]))
    else:
        _follow(*sys.argv[2:])
