"""Generate the Python stubs and the descriptor image from the contract.

Run with the tools environment: `python protos/build.py generate|verify|lint|image`.

- generate: stubs to libs/client/src/holdfast/** and the rules image to libs/rpc/image.binpb
- verify:   generate to a temporary tree and compare with what is committed; missing and stray files count
- lint:     `buf lint` on the image, with comments
- image:    only the rules image (a build output, never committed)

The validation options are stripped from the stubs, because two copies of buf/validate in one process crash;
the server loads the rules from the image instead. No third-party proto is copied in: google/api and google/rpc come
from the installed googleapis-common-protos wheel, buf/validate from the descriptor inside the protovalidate wheel.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from google.api import http_pb2
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "libs" / "client" / "src" / "holdfast"
IMAGE = ROOT / "libs" / "rpc" / "image.binpb"
RULES = "buf/validate/validate.proto"
DETAILS = "google/rpc/error_details.proto"  # not imported by the contract; the edge turns them into JSON
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def sources() -> list[str]:
    """The contract's files, as protoc names them."""
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("holdfast/**/*.proto"))


def run_protoc(*arguments: str) -> None:
    """Run protoc in this process; end with its message when it fails."""
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit("protoc failed; its message stands above")


def rules_descriptor() -> bytes:
    """buf/validate as the installed protovalidate knows it, wrapped as a FileDescriptorSet."""
    from protovalidate._gen.buf.validate import validate_pb

    own = descriptor_pb2.FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())
    return descriptor_pb2.FileDescriptorSet(file=[own]).SerializeToString()


def build_image(work: Path) -> descriptor_pb2.FileDescriptorSet:
    """The whole contract with imports, comments and rules."""
    rules = work / "rules.binpb"
    rules.write_bytes(rules_descriptor())
    include = Path(http_pb2.__file__).parent.parent.parent
    builtin = Path(protoc.__file__).parent / "_proto"
    image = work / "image.binpb"
    run_protoc(
        f"-I{PROTOS}", f"-I{include}", f"-I{builtin}", f"--descriptor_set_in={rules}",
        "--include_imports", "--include_source_info", f"--descriptor_set_out={image}", *sources(), DETAILS,
    )  # fmt: skip
    return descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())


def without_rules(image: descriptor_pb2.FileDescriptorSet) -> descriptor_pb2.FileDescriptorSet:
    """The same contract with no trace of buf/validate: its options reach us as unknown fields, so they are cleared."""
    bare = descriptor_pb2.FileDescriptorSet()
    for file in image.file:
        if file.name in (RULES, DETAILS):
            continue
        copy = bare.file.add()
        copy.CopyFrom(file)
        if not file.name.startswith("holdfast/"):
            continue
        if RULES in copy.dependency:
            copy.dependency.remove(RULES)
        for message in all_messages(copy.message_type):
            strip_rules(message)
            for field in message.field:
                strip_rules(field)
            for oneof in message.oneof_decl:
                strip_rules(oneof)
    return bare


def all_messages(messages: Iterable[descriptor_pb2.DescriptorProto]) -> Iterable[descriptor_pb2.DescriptorProto]:
    """Each message and those nested in it."""
    for message in messages:
        yield message
        yield from all_messages(message.nested_type)


RULES_FIELD = 1159


def strip_rules(
    element: descriptor_pb2.DescriptorProto | descriptor_pb2.FieldDescriptorProto | descriptor_pb2.OneofDescriptorProto,
) -> None:
    """Remove the buf.validate option (field 1159) from one element, and nothing else."""
    if not element.HasField("options"):
        return
    kept = bytes_without_field(element.options.SerializeToString(), RULES_FIELD)
    element.ClearField("options")
    if kept:
        element.options.ParseFromString(kept)


def bytes_without_field(message: bytes, unwanted: int) -> bytes:
    """The serialized message less every length-delimited *unwanted* field. Source: protobuf wire format."""
    out, at = bytearray(), 0
    while at < len(message):
        begin = at
        tag, at = varint(message, at)
        if tag & 7 == 2:
            size, at = varint(message, at)
            at += size
        elif tag & 7 == 0:
            _, at = varint(message, at)
        else:
            at += 8 if tag & 7 == 1 else 4
        if tag >> 3 != unwanted:
            out += message[begin:at]
    return bytes(out)


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The value at *at* and the place behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def write_image(image: descriptor_pb2.FileDescriptorSet, target: Path) -> None:
    """The image the server validates with: all rules, no comments."""
    slim = descriptor_pb2.FileDescriptorSet()
    slim.CopyFrom(image)
    for file in slim.file:
        file.ClearField("source_code_info")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(slim.SerializeToString())


def generate_stubs(image: descriptor_pb2.FileDescriptorSet, out: Path, work: Path) -> None:
    """Write messages, services and their types below *out*, the folder that holds the package `holdfast`."""
    bare = work / "bare.binpb"
    bare.write_bytes(without_rules(image).SerializeToString())
    bin_dir = Path(sys.executable).parent
    run_protoc(
        f"--descriptor_set_in={bare}",
        f"--python_out={out}", f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}", f"--mypy_out=quiet:{out}",
        f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}", f"--mypy_grpc_out=quiet:{out}",
        *sources(),
    )  # fmt: skip
    for folder in {path.parent for path in (out / "holdfast").rglob("*_pb2.py")}:
        while folder != out / "holdfast":
            (folder / "__init__.py").touch()
            folder = folder.parent


def generated(tree: Path) -> set[Path]:
    """The generated files below *tree*."""
    return {path.relative_to(tree) for pattern in GENERATED for path in tree.rglob(pattern)}


def generate(work: Path) -> None:
    """Replace the committed stubs and the image."""
    image = build_image(work)
    out = work / "out"
    out.mkdir()
    generate_stubs(image, out, work)
    for stale in generated(STUBS):
        (STUBS / stale).unlink()
    shutil.copytree(out / "holdfast", STUBS, dirs_exist_ok=True)
    write_image(image, IMAGE)
    print(f"wrote {len(generated(STUBS))} stub files and {IMAGE.relative_to(ROOT)}")


def verify(work: Path) -> None:
    """End with a list of differences unless the committed stubs are those of the contract."""
    out = work / "out"
    out.mkdir()
    generate_stubs(build_image(work), out, work)
    fresh, committed = generated(out / "holdfast"), generated(STUBS)
    faults = [f"missing: {path}" for path in sorted(fresh - committed)]
    faults += [f"stray: {path}" for path in sorted(committed - fresh)]
    faults += [
        f"differs: {path}"
        for path in sorted(fresh & committed)
        if not filecmp.cmp(out / "holdfast" / path, STUBS / path, shallow=False)
    ]
    if faults:
        sys.exit("\n".join([*faults, "The stubs are not those of protos/: run `make protos` and commit the result."]))
    print(f"stubs match the contract ({len(fresh)} files)")


def lint(work: Path) -> None:
    """Run `buf lint` over our own files of the image."""
    image = build_image(work)
    (work / "lint.binpb").write_bytes(image.SerializeToString())
    buf = Path(sys.executable).parent / "buf"
    arguments = [str(buf), "lint", str(work / "lint.binpb"), "--config", str(PROTOS / "buf.yaml")]
    sys.exit(subprocess.run(arguments, check=False).returncode)


def main() -> None:
    """Parse the verb and run it in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("verb", choices=["generate", "verify", "lint", "image"])
    verb = parser.parse_args().verb
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if verb == "image":
            write_image(build_image(work), IMAGE)
        else:
            {"generate": generate, "verify": verify, "lint": lint}[verb](work)


if __name__ == "__main__":
    main()
