#!/usr/bin/env python3
"""Writes crates/api/src/aws/model/model.json: the facts of AWS KMS's model, from botocore's service-2.json.

    scripts/aws-model.py [--check] [service-2.json[.gz] | botocore-VERSION.whl]

Without a file, that of the botocore which is installed for this Python. With --check nothing is written, and the end is 1,
with the differences, where what is checked in is not what the given model says.

Facts only: names, types, constraints. botocore's texts (Apache-2.0, Amazon) stay where they are.
"""

import difflib
import gzip
import json
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "crates/api/src/aws/model/model.json"
INSIDE = "data/kms/2014-11-01/service-2.json"

# What is kept of a shape beside its members, and what is not. A trait in neither is one that nobody has judged yet.
KEPT = ["type", "min", "max", "pattern", "enum", "sensitive", "exception", "fault"]
LEFT = {"documentation", "deprecated", "deprecatedMessage"}
OF_MEMBERS = {"members", "required", "member", "key", "value"}
OF_OPERATIONS = {"name", "http", "input", "output", "errors", "documentation"}


def installed():
    try:
        import botocore
    except ImportError:
        sys.exit("aws-model: no botocore is installed here (pip install botocore), and no file was named")
    folder = Path(botocore.__file__).parent
    for name in (INSIDE + ".gz", INSIDE):
        if (folder / name).exists():
            return folder / name
    sys.exit(f"aws-model: {folder} has no {INSIDE}")


def model_of(path):
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            name = next((name for name in wheel.namelist() if INSIDE in name), None)
            if name is None:
                sys.exit(f"aws-model: {path} has no {INSIDE}")
            content = wheel.read(name)
    else:
        content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    return json.loads(content)


def unknown(where, names, known):
    names = sorted(set(names) - known)
    if names:
        sys.exit(f"aws-model: {where} has {', '.join(names)}: decide in scripts/aws-model.py what becomes of it")


def shape_of(name, shape):
    unknown(f"the shape {name}", shape, set(KEPT) | LEFT | OF_MEMBERS)
    facts = {trait: shape[trait] for trait in KEPT if trait in shape}
    if shape["type"] == "structure":
        for member, of in shape["members"].items():
            unknown(f"{name}.{member}", of, {"shape"} | LEFT)
        # As pairs, in the model's order, which is the order of the checks.
        facts["members"] = [[member, of["shape"]] for member, of in shape["members"].items()]
        if shape.get("required"):
            facts["required"] = shape["required"]
    for of in ("member", "key", "value"):
        if of in shape:
            unknown(f"{name}'s {of}", shape[of], {"shape"} | LEFT)
            facts[of] = shape[of]["shape"]
    return facts


def operation_of(name, operation):
    unknown(f"the operation {name}", operation, OF_OPERATIONS)
    facts = {side: operation[side]["shape"] for side in ("input", "output") if side in operation}
    facts["errors"] = sorted(error["shape"] for error in operation["errors"])
    return facts


def text_of(model):
    """One line for each operation and each shape, by name, so that a difference shows what changed."""

    def lines(facts):
        return ",\n".join(f"{json.dumps(name)}: {json.dumps(facts[name], ensure_ascii=True)}" for name in sorted(facts))

    metadata = {key: model["metadata"][key] for key in ("apiVersion", "jsonVersion", "protocol", "targetPrefix")}
    operations = {name: operation_of(name, operation) for name, operation in model["operations"].items()}
    shapes = {name: shape_of(name, shape) for name, shape in model["shapes"].items()}
    return (
        f'{{\n"metadata": {json.dumps(metadata)},\n'
        f'"operations": {{\n{lines(operations)}\n}},\n"shapes": {{\n{lines(shapes)}\n}}\n}}\n'
    )


def main(arguments):
    check = "--check" in arguments
    paths = [argument for argument in arguments if argument != "--check"]
    if len(paths) > 1 or any(path.startswith("-") for path in paths):
        sys.exit(__doc__)
    path = Path(paths[0]) if paths else installed()
    new = text_of(model_of(path))
    if not check:
        HERE.write_text(new)
        return
    old = HERE.read_text() if HERE.exists() else ""
    if old != new:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(HERE), str(path), n=0))
        sys.exit("aws-model: the model that is checked in is another one; read what changed, then run scripts/aws-model.py")
    count = new.count('"errors": ')
    print(f"aws-model: {count} operations, as {path} has them")


main(sys.argv[1:])
