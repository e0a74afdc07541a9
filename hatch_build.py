"""Generate Python and type stubs from protos/ into gen/, at build time and by `make protos`."""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import shutil
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoHook(BuildHookInterface):  # type: ignore[type-arg]
    """Run the generator before a wheel or an editable install is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":  # an editable build comes here too
            generate(pathlib.Path(self.root))
            build_data["pure_python"] = True


def include_roots() -> list[pathlib.Path]:
    """Directories that hold google/protobuf/*.proto and google/api/*.proto."""
    bundled = pathlib.Path(str(importlib.resources.files("grpc_tools"))) / "_proto"
    api = next(
        pathlib.Path(entry)
        for entry in sys.path
        if (pathlib.Path(entry) / "google" / "api" / "annotations.proto").is_file()
    )
    return [bundled, api]


def generate(root: pathlib.Path) -> None:
    """Write gen/banksman/** anew. Raises SystemExit when a .proto does not compile."""
    from grpc_tools import protoc

    # protoc finds its mypy plugins by PATH, which holds this environment only when it is activated.
    os.environ["PATH"] = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
    fresh = root / "gen.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    protos = root / "protos"
    outputs = [f"--{kind}={fresh}" for kind in ("python_out", "grpc_python_out")]
    outputs += [f"--{kind}=quiet:{fresh}" for kind in ("mypy_out", "mypy_grpc_out")]
    includes = [f"-I{protos}", *(f"-I{path}" for path in include_roots())]
    if protoc.main(["protoc", *includes, *outputs, *sorted(str(path) for path in protos.rglob("*.proto"))]) != 0:
        raise SystemExit("protoc failed")
    for directory in [path for path in fresh.rglob("*") if path.is_dir()]:
        (directory / "__init__.py").touch()
    (fresh / "banksman" / "py.typed").touch()
    shutil.rmtree(root / "gen", ignore_errors=True)
    fresh.rename(root / "gen")


if __name__ == "__main__":
    generate(pathlib.Path(__file__).resolve().parent)
