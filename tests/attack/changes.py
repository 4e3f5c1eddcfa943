"""Changes that a stranger may make to a prepared folder, a store, a run, a score file.

In: a folder of copies (see `conftest.py`). Out: the same with one thing changed, and the checksums that anyone can
compute. The list of attacks is `attack.attacks`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from star_stores import reseal_metadata

from pipeline.artifacts.archives import sealed_archive
from pipeline.artifacts.checksum import crc_tail
from pipeline.artifacts.sealed_json import seal, unseal

Attack = Callable[[Path], None]
DEEP = b"[" * 100_000 + b"]" * 100_000
COMMIT, META, SHARD = "store/commits/000/00000.json", "prepared/dataset.json", "prepared/clips-00000.json"
CONTENT = "store/commits/content.json"
ZARR, H5, CONFIG, LOG = "store/zarr.json", "prepared/clips-00000.h5", "run/config.json", "run/metrics.jsonl"
RECORDS = {"store": COMMIT, "prepared": SHARD, "prepared meta": META, "store metadata": "store/commits/metadata.json"}


def bytes_of(path: str, data: bytes) -> Attack:
    return lambda root: (root / path).write_bytes(data) and None  # type: ignore[func-returns-value]


def resealed(path: str, change: Callable[[dict[str, Any]], Any]) -> Attack:
    """A record with a change and a checksum that is right."""

    def attack(root: Path) -> None:
        record = unseal((root / path).read_bytes(), path, {})
        change(record)
        (root / path).write_bytes(seal(record))

    return attack


def rewritten(path: str, change: Callable[[dict[str, Any]], Any]) -> Attack:
    """A JSON file with a change; the checksums of one in a store are made anew."""

    def attack(root: Path) -> None:
        value = json.loads((root / path).read_bytes())
        change(value)
        (root / path).write_text(json.dumps(value))
        if path.startswith("store/"):
            reseal_metadata(root / "store")

    return attack


def linked(path: str, target: str = "canary") -> Attack:
    """A link in the place of a file or folder."""

    def attack(root: Path) -> None:
        found = root / path
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        found.unlink(missing_ok=True)
        found.parent.mkdir(parents=True, exist_ok=True)
        found.symlink_to(target if target.startswith("/") else root / target)

    return attack


def moved(path: str) -> Attack:
    """A file or folder moved out of its artifact, and a link to it in its place: nothing is missing."""

    def attack(root: Path) -> None:
        (root / path).rename(root / "elsewhere")
        (root / path).symlink_to(root / "elsewhere")

    return attack


def hard_linked(path: str) -> Attack:
    def attack(root: Path) -> None:
        (root / path).unlink(missing_ok=True)
        (root / path).parent.mkdir(exist_ok=True)
        os.link(root / "canary", root / path)

    return attack


def fifo(path: str) -> Attack:
    def attack(root: Path) -> None:
        (root / path).unlink(missing_ok=True)
        (root / path).parent.mkdir(exist_ok=True)
        os.mkfifo(root / path)

    return attack


def folder(path: str) -> Attack:
    def attack(root: Path) -> None:
        (root / path).unlink(missing_ok=True)
        (root / path).mkdir(parents=True)

    return attack


def sparse(path: str, size: int = 1 << 40) -> Attack:
    """A file that claims a terabyte and holds nothing."""

    def attack(root: Path) -> None:
        os.truncate(root / path, size)

    return attack


def exchanged(one: str, other: str) -> Attack:
    def attack(root: Path) -> None:
        data = (root / one).read_bytes()
        (root / one).write_bytes((root / other).read_bytes())
        (root / other).write_bytes(data)

    return attack


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        inner: Any = record
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return change


def dropped(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        inner: Any = record
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]

    return change


def hdf5(change: Callable[[h5py.File, Path], None]) -> Attack:
    """A shard of clips with a change, and a commit record with its right digest."""

    def attack(root: Path) -> None:
        with h5py.File(root / H5, "r+") as file:
            change(file, root)
        reseal_shard(root)

    return attack


def reseal_shard(root: Path) -> None:
    from pipeline.artifacts.fingerprint import sha256

    data = (root / H5).read_bytes()
    resealed(SHARD, lambda record: record.update(bytes=len(data), sha256=sha256(data)))(root)


def external_storage(file: h5py.File, root: Path) -> None:
    shape, kind = file["joints"].shape, file["joints"].dtype
    del file["joints"]
    file.create_dataset("joints", shape, kind, external=[(str(root / "canary"), 0, h5py.h5f.UNLIMITED)])


def external_link(file: h5py.File, root: Path) -> None:
    shutil.copy(root / "prepared/clips-00001.h5", root / "other.h5")
    del file["joints"]
    file["joints"] = h5py.ExternalLink(str(root / "other.h5"), "joints")


def virtual(file: h5py.File, root: Path) -> None:
    shutil.copy(root / "prepared/clips-00001.h5", root / "other.h5")
    shape, kind = file["joints"].shape, file["joints"].dtype
    del file["joints"]
    layout = h5py.VirtualLayout(shape, kind)
    layout[:] = h5py.VirtualSource(str(root / "other.h5"), "joints", shape)
    file.create_virtual_dataset("joints", layout)


def filtered(file: h5py.File, root: Path) -> None:
    del file["frames"]
    file.create_dataset("frames", (1 << 38,), np.uint8, chunks=(1 << 24,), compression="gzip")


def huge(file: h5py.File, root: Path) -> None:
    del file["joints"]
    file.create_dataset("joints", (3, 1, 2, 16, 1 << 30, 2), np.float32)


def retyped(file: h5py.File, root: Path) -> None:
    del file["box"]
    file.create_dataset("box", data=np.asarray([b"x"] * 3, dtype=h5py.string_dtype()))


def linked_xyz(file: h5py.File, root: Path) -> None:
    del file["xyz"]
    file["xyz"] = h5py.ExternalLink(str(root / "prepared/clips-00001.h5"), "xyz")


def text_xyz(file: h5py.File, root: Path) -> None:
    shape = file["xyz"].shape
    del file["xyz"]
    file.create_dataset("xyz", shape, "S4")


def grouped(file: h5py.File, root: Path) -> None:
    del file["scores"]
    file.create_group("scores")


def soft_link(file: h5py.File, root: Path) -> None:
    del file["scores"]
    file["scores"] = h5py.SoftLink("/scores")


def newest(root: Path) -> Path:
    return max((root / "run").glob("checkpoint-*.pt"))


def checkpoint(change: Callable[[dict[str, Any]], Any]) -> Attack:
    def attack(root: Path) -> None:
        state = torch.load(newest(root), weights_only=True)
        change(state)
        torch.save(state, newest(root))

    return attack


def checkpoint_bytes(make: Callable[[bytes], bytes]) -> Attack:
    def attack(root: Path) -> None:
        newest(root).write_bytes(make(newest(root).read_bytes()))

    return attack


def nested_lists(depth: int, width: int = 1) -> list[Any]:
    """Lists in lists; with a width, ten lines of a pickle that are a billion values to who walks through them."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value] * width
    return value


def repeated(state: dict[str, Any], name: str) -> None:
    lists = nested_lists(30, width=10)
    state[name] = {**state[name], "x": lists} if isinstance(state.get(name), dict) else lists


def each_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    def changed(state: dict[str, Any]) -> None:
        state["model"] = {name: change(value) for name, value in state["model"].items()}

    return changed


def each_state(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """A change of what the optimiser keeps of each weight."""

    def changed(state: dict[str, Any]) -> None:
        states = state["optimizer"]["state"]
        states.update({number: change(values) for number, values in states.items()})

    return changed


def weights_of(state: dict[str, Any], width: int) -> dict[str, torch.Size]:
    """The shapes of a model so wide, which becomes that of the settings."""
    from star.build import MODELS
    from star.config.text import from_dict

    state["model_config"]["width"] = width
    with torch.device("meta"):
        config = from_dict({"model": state["model_config"]}).model
        return {name: value.shape for name, value in MODELS[config.kind](config).state_dict().items()}


def repeats(state: dict[str, Any], width: int) -> None:
    """Gigabytes of weights, each tensor a view of one number."""
    state["average"] = {}
    state["model"] = {name: torch.zeros(1).expand(shape) for name, shape in weights_of(state, width).items()}


def one_memory(state: dict[str, Any], width: int) -> None:
    """Weights that are all views of the largest one."""
    shapes = weights_of(state, width)
    memory = torch.zeros(max(shape.numel() for shape in shapes.values()))
    state["average"] = {}
    state["model"] = {name: memory[: shape.numel()].view(shape) for name, shape in shapes.items()}


def twice(data: bytes) -> bytes:
    """An archive in which a record has a second version under the same name."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive, warnings.catch_warnings(action="ignore"):
        name = next(member.filename for member in archive.infolist() if "/data/" in member.filename)
        archive.writestr(name, bytes(len(archive.read(name))))
    return out.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo > /tmp/should-not-exist",)


def pickled_bomb(_: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        archive.writestr("archive/version", b"3\n")
    return out.getvalue()


def zip_bomb(data: bytes) -> bytes:
    """The same archive with a member of a gigabyte in a few bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w") as archive:
        for member in before.infolist():
            archive.writestr(member.filename, before.read(member))
        zeros(archive, "archive/data/9999", b"")
    return out.getvalue()


def zeros(archive: zipfile.ZipFile, name: str, head: bytes) -> None:
    """A member of a gigabyte in a megabyte, made piece by piece: the memory of the one who makes it is bounded too."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(member, "w") as file:
        file.write(head)
        for _ in range(1 << 10):
            file.write(bytes(1 << 20))


def lying_storage(data: bytes) -> bytes:
    """A tensor's storage that claims more than its record holds."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w") as archive:
        for member in before.infolist():
            held = before.read(member)
            archive.writestr(member.filename, held[:4] if "/data/" in member.filename else held)
    return out.getvalue()


def scores(change: Callable[[dict[str, Any]], Any]) -> Attack:
    """A score file with a change and a checksum that is right."""

    def attack(root: Path) -> None:
        with np.load(root / "run/test.npz") as held:
            arrays = dict(held)
        change(arrays)
        out = io.BytesIO()
        np.savez(out, **arrays)
        (root / "run/test.npz").write_bytes(sealed_archive(out.getvalue()))

    return attack


def unsealed_scores(root: Path) -> None:
    """Other probabilities, whole by zip's own checksums, and no checksum of the file."""
    with np.load(root / "run/test.npz") as held:
        arrays = dict(held)
    np.savez(root / "run/test.npz", **{**arrays, "probabilities": arrays["probabilities"][::-1]})


def lying_header(root: Path) -> None:
    """An array whose header claims a petabyte."""
    replaced(root, "labels.npy", lambda archive, name: archive.writestr(name, header_of("<i8", (1 << 47,))))


def compressed_scores(root: Path) -> None:
    """A gigabyte of scores in a megabyte."""
    replaced(root, "probabilities.npy", lambda archive, name: zeros(archive, name, header_of("<f8", (1 << 26, 2))))


def header_of(kind: str, shape: tuple[int, ...]) -> bytes:
    header = str({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def replaced(root: Path, name: str, write: Callable[[zipfile.ZipFile, str], None]) -> None:
    """One array of the score file, written otherwise."""
    out = io.BytesIO()
    with zipfile.ZipFile(root / "run/test.npz") as before, zipfile.ZipFile(out, "w") as archive:
        for member in before.infolist():
            if member.filename != name:
                archive.writestr(member.filename, before.read(member))
        write(archive, name)
    (root / "run/test.npz").write_bytes(sealed_archive(out.getvalue()))


def column(name: str, make: Callable[[bytes], bytes]) -> Attack:
    """A column's chunk with other bytes, and the checksum that is right for them."""

    def attack(root: Path) -> None:
        path = root / "store" / name / "c/0"
        body = make(path.read_bytes()[:-4])
        path.write_bytes(body + crc_tail(body))
        reseal_metadata(root / "store")

    return attack


def billion_clips(root: Path) -> None:
    """A description of a billion clips without a flaw: only the files are too small for it."""
    import zarr
    from zarr.storage import MemoryStore

    from pipeline.store.layout import COLUMNS, NAMES, StoreSizes, create_array, create_column, specs

    attributes = json.loads((root / ZARR).read_bytes())["attributes"]
    attributes["sizes"] |= {"clips": 10**9, "shard_clips": 10**4, "views": 10}
    sizes, memory = StoreSizes.of(attributes, ""), {}
    group = zarr.create_group(MemoryStore(memory), attributes=attributes)
    for spec in specs(sizes):
        create_array(group, spec, sizes)
    for name in (*COLUMNS, *NAMES):
        create_column(group, name, sizes.clips)
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(MemoryStore(memory))
    (root / ZARR).write_bytes(memory["zarr.json"].to_bytes())
    reseal_metadata(root / "store")


def array(name: str, *path: Any, value: Any) -> Attack:
    """A change of an array's metadata, where zarr would read it."""

    def attack(root: Path) -> None:
        rewritten(ZARR, put("consolidated_metadata", "metadata", name, *path, value=value))(root)
        rewritten(f"store/{name}/zarr.json", put(*path, value=value))(root)

    return attack


def rows(change: Callable[[list[Any]], Any]) -> Attack:
    """Rows of a listing with a change, and the digest that is right for them."""

    def attack(root: Path) -> None:
        from pipeline.artifacts.fingerprint import sha256

        rows = [json.loads(line) for line in (root / "prepared/rows.jsonl").read_text().splitlines()]
        change(rows)
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (root / "prepared/rows.jsonl").write_bytes(data)
        resealed(META, lambda meta: meta.update(rows_sha256=sha256(data)))(root)

    return attack


def line(value: Any) -> Attack:
    def attack(root: Path) -> None:
        with open(root / LOG, "a") as file:
            file.write((value if isinstance(value, str) else json.dumps(value)) + "\n")

    return attack
