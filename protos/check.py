"""Lint the contract and hold it against the kept image of the last release.

Says `--keep` writes that image: do it when a release is made, never to silence a breaking change.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "protos" / "released.binpb"
sys.path.insert(0, str(ROOT))


def build_image(target: pathlib.Path) -> None:
    """Compile the contract and what it imports into one descriptor image."""
    from grpc_tools import protoc

    from hatch_build import include_roots

    includes = [f"-I{ROOT / 'protos'}", *(f"-I{path}" for path in include_roots())]
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={target}"]
    protos = sorted(str(path) for path in (ROOT / "protos").rglob("*.proto"))
    if protoc.main(["protoc", *includes, *flags, *protos]) != 0:
        raise SystemExit("the contract does not compile")


def main() -> int:
    """Return 0 when the contract is clean and breaks nobody."""
    if "--keep" in sys.argv[1:]:
        build_image(KEPT)
        return 0
    image = ROOT / "gen" / "contract.binpb"
    build_image(image)
    config = str(ROOT / "buf.yaml")
    lint = subprocess.run(
        ["buf", "lint", str(image), "--config", config, "--path", "banksman/v1"], cwd=ROOT, check=False
    )
    against = ["buf", "breaking", str(image), "--against", str(KEPT), "--config", config, "--path", "banksman/v1"]
    breaking = subprocess.run(against, cwd=ROOT, check=False)
    return lint.returncode or breaking.returncode


if __name__ == "__main__":
    raise SystemExit(main())
