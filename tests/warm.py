"""``python -m MODULE ARGUMENTS`` without the seconds that it takes to import other people's libraries.

A process of its own imports them once and forks for every command. None of the project's modules is
imported before the fork, and each command has its own arguments, environment, output and exit code.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "torch", "scipy.stats", "matplotlib.axes", "matplotlib.figure", "mlflow", "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store", "pyarrow.parquet", "pandas", "tyro", "rich.progress",
    "safetensors.torch",
)  # fmt: skip


@cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run(
    arguments: list[str], cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a module as ``subprocess.run(..., capture_output=True, text=True)`` would."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        request = [arguments, str(cwd), environment, [str(path) for path in outputs]]
        print(json.dumps(request), file=server.stdin, flush=True)
        answer = server.stdout.readline()
        assert answer, "the process that starts the commands is gone"
        texts = [path.read_text() for path in outputs]
    return subprocess.CompletedProcess(arguments, int(answer), *texts)


def _serve() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    for line in sys.stdin:
        arguments, cwd, environment, outputs = json.loads(line)
        child = os.fork()
        if not child:
            _become(arguments, cwd, environment, outputs)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(
    arguments: list[str], cwd: str, environment: dict[str, str], outputs: list[str]
) -> NoReturn:
    for number, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = cwd
    sys.argv = list(arguments)
    code = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    # As the interpreter's end does, but for taking all the libraries apart.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
