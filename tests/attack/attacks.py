"""The attack list: what a stranger may do to a prepared folder, a store, a run, a score file.

In: nothing. Out: by kind and name a function that changes a folder of copies. Each of `STORE`, `PREPARED`, `RUN` and
`SCORES` must be told by one who uses the changed thing; `HARMLESS` changes of a run are without effect; `LINKS` lie
where we write; `BOMBS` ask for memory.
"""

from __future__ import annotations

import json
import pickle

import numpy as np
import torch

from attack.changes import (
    COMMIT,
    CONFIG,
    CONTENT,
    DEEP,
    H5,
    LOG,
    META,
    SHARD,
    ZARR,
    Attack,
    Bomb,
    array,
    billion_clips,
    bytes_of,
    checkpoint,
    checkpoint_bytes,
    column,
    compressed_scores,
    dropped,
    each_state,
    each_weight,
    exchanged,
    external_link,
    external_storage,
    fifo,
    filtered,
    folder,
    grouped,
    hard_linked,
    hdf5,
    huge,
    line,
    linked,
    linked_xyz,
    lying_header,
    lying_storage,
    moved,
    nested_lists,
    newest,
    one_memory,
    pickled_bomb,
    put,
    repeated,
    repeats,
    resealed,
    retyped,
    rewritten,
    rows,
    scores,
    soft_link,
    sparse,
    text_xyz,
    twice,
    unsealed_scores,
    virtual,
    zip_bomb,
)

JSON_DAMAGE = {
    "empty": b"",
    "null": b"null",
    "number": b"3",
    "list": b"[]",
    "text": b'"x"',
    "deep": DEEP,
    "nan": b'{"a": NaN}',
    "half a letter": b'{"a": "\\ud800"}',
    "no text": b"\xff\xfe\x00",
    "many digits": b'{"a": ' + b"9" * 5000 + b"}",
    "infinite": b'{"format": 1e999}',
}
STORE: dict[str, Attack] = {
    **{f"zarr.json {name}": bytes_of(ZARR, data) for name, data in JSON_DAMAGE.items()},
    **{f"commit {name}": bytes_of(COMMIT, data) for name, data in JSON_DAMAGE.items()},
    **{f"content {name}": bytes_of(CONTENT, data) for name, data in JSON_DAMAGE.items()},
    **{f"content without {name}": resealed(CONTENT, dropped(name)) for name in ("fingerprint", "records")},
    "content of fewer records": resealed(CONTENT, lambda record: record["records"].pop()),
    "content of numbers": resealed(CONTENT, put("records", value=[1, 2, 3, 4])),
    "content of another store": resealed(CONTENT, put("fingerprint", value="0" * 64)),
    "content of other records": resealed(CONTENT, lambda record: record["records"].reverse()),
    "content a pipe": fifo(CONTENT),
    "content a terabyte": sparse(CONTENT),
    "content a link out": moved(CONTENT),
    **{f"metadata record {name}": bytes_of("store/commits/metadata.json", data) for name, data in JSON_DAMAGE.items()},
    "metadata growing to a number": resealed("store/commits/metadata.json", put("growing", value=3)),
    "metadata growing to nothing": resealed("store/commits/metadata.json", put("growing", value=[{}])),
    **{
        f"commit without {name}": resealed(COMMIT, dropped(name)) for name in ("fingerprint", "shard", "files", "clips")
    },
    **{
        f"attributes without {name}": rewritten(ZARR, dropped("attributes", name))
        for name in ("fingerprint", "sizes", "dtype", "codec", "class_names", "protocols", "made_from", "dataset")
    },
    **{
        f"size {name} of {value!r}": rewritten(ZARR, put("attributes", "sizes", name, value=value))
        for name in ("clips", "views", "shard_clips", "gg_channels")
        for value in (0, -1, 1 << 40, 1 << 80, 2.5, "6", None, True)
    },
    "commit of text": resealed(COMMIT, put("shard", value="0")),
    "commit without files": resealed(COMMIT, put("files", value=[])),
    "commit with fewer files": resealed(COMMIT, lambda record: record["files"].pop()),
    "commit with a file twice": resealed(COMMIT, lambda record: record["files"].append(record["files"][0])),
    "commit with fewer clips": resealed(COMMIT, lambda record: record["clips"].pop()),
    "commit with other clips": resealed(COMMIT, put("clips", 0, "id", value="somebody")),
    "commit key out": resealed(COMMIT, put("files", 0, "key", value="../../../../../../dev/zero")),
    "commit key absolute": resealed(COMMIT, put("files", 0, "key", value="/dev/zero")),
    "commit key empty": resealed(COMMIT, put("files", 0, "key", value="")),
    "commit key dot": resealed(COMMIT, put("files", 0, "key", value=".")),
    "commit key is a list": resealed(COMMIT, put("files", 0, "key", value=[])),
    "commit outcome unknown": resealed(COMMIT, put("clips", 0, "outcome", value="stolen")),
    "commit outcome a list": resealed(COMMIT, put("clips", 0, "outcome", value=[1])),
    "commit digest a number": resealed(COMMIT, put("clips", 0, "sha256", value=5)),
    "commit without digests": resealed(COMMIT, dropped("clips", 0, "sha256")),
    "commit without clips' checksums": resealed(COMMIT, dropped("files", 0, "crc32c")),
    "commit with short checksums": resealed(COMMIT, put("files", 0, "crc32c", value="00")),
    "commit with a wrong checksum": resealed(COMMIT, put("files", 0, "crc64", value="zz")),
    "gg shards exchanged": exchanged("store/gg/c/0/0/0/0/0", "store/gg/c/1/0/0/0/0"),
    "jm shards exchanged": exchanged("store/jm/c/0/0/0/0/0", "store/jm/c/1/0/0/0/0"),
    "jm views exchanged": exchanged("store/jm/c/0/0/0/0/0", "store/jm/c/0/1/0/0/0"),
    "joints exchanged": exchanged("store/joints/c/0/0/0/0/0/0", "store/joints/c/1/0/0/0/0/0"),
    "scores of joints exchanged": exchanged("store/joint_scores/c/0/0/0/0/0", "store/joint_scores/c/1/0/0/0/0"),
    "places exchanged": exchanged("store/xyz/c/0/0/0/0/0/0", "store/xyz/c/1/0/0/0/0/0"),
    "type of xyz": array("xyz", "data_type", value="float64"),
    "shape of joint_scores": array("joint_scores", "shape", value=[6, 2, 1 << 40, 16, 13]),
    "masks exchanged": exchanged("store/joint_mask/c/0/0/0/0", "store/joint_mask/c/1/0/0/0"),
    "commits exchanged": exchanged(COMMIT, "store/commits/000/00001.json"),
    "codec pickle": array("gg", "codecs", value=[{"name": "numcodecs.pickle", "configuration": {}}]),
    "codec gzip": array("jm", "codecs", value=[{"name": "gzip", "configuration": {"level": 1}}]),
    "shape larger": array("gg", "shape", value=[1 << 40, 2, 16, 4, 512]),
    "type object": array("clip_id", "data_type", value="object"),
    "chunk grid huge": array(
        "label", "chunk_grid", value={"name": "regular", "configuration": {"chunk_shape": [1 << 50]}}
    ),
    "node a group": array("gg", "node_type", value="group"),
    "storage transformers": array("gg", "storage_transformers", value=[{"name": "x"}]),
    "fill value of text": array("gg", "fill_value", value="x"),
    "group a number": rewritten(ZARR, put("node_type", value=3)),
    "group of version 2": rewritten(ZARR, put("zarr_format", value=2)),
    "group of a strange kind": rewritten(ZARR, put("consolidated_metadata", "kind", value=3)),
    "group with a surprise": rewritten(ZARR, put("surprise", value={"must_understand": True})),
    "a billion clips": billion_clips,
    "no consolidated metadata": rewritten(ZARR, dropped("consolidated_metadata")),
    "label out of range": column("label", lambda data: np.full(len(data) // 8, 99, "<i8").tobytes()),
    "label negative": column("label", lambda data: np.full(len(data) // 8, -5, "<i8").tobytes()),
    "label short": column("label", lambda data: data[:8]),
    "ids of a lying number": column("clip_id", lambda data: b"\xff\xff\xff\xff" + data[4:]),
    "ids of a lying length": column("clip_id", lambda data: data[:4] + b"\xff\xff\xff\x7f" + data[8:]),
    "ids no text": column("clip_id", lambda data: data[:8] + b"\xff" + data[9:]),
    "zarr.json a pipe": fifo(ZARR),
    "commit a pipe": fifo(COMMIT),
    "shard a pipe": fifo("store/gg/c/0/0/0/0/0"),
    "column a pipe": fifo("store/label/c/0"),
    "status a pipe": fifo("store/status/c/0/0"),
    "shard a device": linked("store/gg/c/0/0/0/0/0", "/dev/zero"),
    "commit a device": linked(COMMIT, "/dev/zero"),
    "zarr.json a device": linked(ZARR, "/dev/zero"),
    "column a device": linked("store/label/c/0", "/dev/zero"),
    "shard a folder": folder("store/gg/c/0/0/0/0/0"),
    "zarr.json a folder": folder(ZARR),
    "zarr.json a terabyte": sparse(ZARR),
    "commit a terabyte": sparse(COMMIT),
    "label a terabyte": sparse("store/label/c/0"),
    "status a terabyte": sparse("store/status/c/0/0"),
    "shard a terabyte": sparse("store/gg/c/0/0/0/0/0"),
    "zarr.json a link out": moved(ZARR),
    "commit a link out": moved(COMMIT),
    "commits a link out": moved("store/commits"),
    "shard a link out": moved("store/gg/c/0/0/0/0/0"),
    "array a link out": moved("store/jm"),
    "column a link out": moved("store/clip_id"),
}
PREPARED: dict[str, Attack] = {
    **{f"dataset.json {name}": bytes_of(META, data) for name, data in JSON_DAMAGE.items()},
    **{f"clips.json {name}": bytes_of(SHARD, data) for name, data in JSON_DAMAGE.items()},
    **{
        f"meta without {name}": resealed(META, dropped(name))
        for name in (
            "fingerprint",
            "format",
            "dataset",
            "topology",
            "options",
            "roots",
            "clips",
            "columns",
            "rows_sha256",
        )
    },
    **{
        f"record without {name}": resealed(SHARD, dropped(name))
        for name in ("fingerprint", "shard", "bytes", "sha256", "clips")
    },
    "options unknown": resealed(META, put("options", "surprise", value=1)),
    "options of text": resealed(META, put("options", "draws", value="1")),
    "options a list": resealed(META, put("options", value=[])),
    "a billion clips": resealed(META, put("clips", value=10**9)),
    "other columns": resealed(META, put("columns", value=["clip_id"])),
    "roots of numbers": resealed(META, put("roots", value={"videos": 3})),
    "record with fewer clips": resealed(SHARD, lambda record: record["clips"].pop()),
    "record with other clips": resealed(SHARD, put("clips", 0, "id", value="somebody")),
    "record without a digest": resealed(SHARD, dropped("clips", 0, "sha256")),
    "record of a strange outcome": resealed(SHARD, put("clips", 0, "outcome", value="stolen")),
    "record of a number": resealed(SHARD, put("clips", value=7)),
    "a row of text": rows(lambda rows: rows.__setitem__(0, "x")),
    "a short row": rows(lambda rows: rows[0].pop()),
    "a row with a label of text": rows(lambda rows: rows[0].__setitem__(2, "1")),
    "a row with an id of null": rows(lambda rows: rows[0].__setitem__(0, None)),
    "a row less": rows(lambda rows: rows.pop()),
    "a deep row": rows(lambda rows: rows.__setitem__(0, json.loads("[" * 400 + "]" * 400))),
    "HDF5 external storage": hdf5(external_storage),
    "HDF5 external link": hdf5(external_link),
    "HDF5 virtual": hdf5(virtual),
    "HDF5 filtered": hdf5(filtered),
    "HDF5 huge": hdf5(huge),
    "HDF5 another type": hdf5(retyped),
    "HDF5 xyz a link": hdf5(linked_xyz),
    "HDF5 xyz of text": hdf5(text_xyz),
    "HDF5 group": hdf5(grouped),
    "HDF5 soft link": hdf5(soft_link),
    "dataset.json a pipe": fifo(META),
    "rows a pipe": fifo("prepared/rows.jsonl"),
    "record a pipe": fifo(SHARD),
    "clips a pipe": fifo(H5),
    "dataset.json a terabyte": sparse(META),
    "record a terabyte": sparse(SHARD),
    "rows a terabyte": sparse("prepared/rows.jsonl"),
    "clips a terabyte": sparse(H5),
    "dataset.json a link out": moved(META),
    "rows a link out": moved("prepared/rows.jsonl"),
    "record a link out": moved(SHARD),
    "clips a link out": moved(H5),
    "clips a device": linked(H5, "/dev/zero"),
    "rows a device": linked("prepared/rows.jsonl", "/dev/zero"),
    "shards exchanged": exchanged(H5, "prepared/clips-00001.h5"),
}
RUN: dict[str, Attack] = {
    **{f"config {name}": bytes_of(CONFIG, data) for name, data in JSON_DAMAGE.items()},
    **{f"metrics line {name}": line(data.decode("latin-1")) for name, data in JSON_DAMAGE.items() if name != "empty"},
    **{
        f"config without {name}": rewritten(CONFIG, dropped(name))
        for name in ("format", "config", "store", "class_names")
    },
    **{
        f"config's store without {name}": rewritten(CONFIG, dropped("store", name))
        for name in ("url", "fingerprint", "made_from", "protocol", "views", "clips")
    },
    "config unknown": rewritten(CONFIG, put("config", "surprise", value=1)),
    "config of another type": rewritten(CONFIG, put("config", "seed", value="1")),
    "config of a group as a number": rewritten(CONFIG, put("config", "model", value=1)),
    "store on a server": rewritten(CONFIG, put("store", "url", value="s3://stranger/store")),
    "store on a web server": rewritten(CONFIG, put("store", "url", value="http://127.0.0.1:9/store")),
    "store a device": rewritten(CONFIG, put("store", "url", value="/dev/zero")),
    "views of text": rewritten(CONFIG, put("store", "views", "test", value=["x"])),
    "views of validation of text": rewritten(CONFIG, put("store", "views", "val", value=["x"])),
    "clips of validation a number": rewritten(CONFIG, put("store", "clips", "val", value=1)),
    "clips of no validation": rewritten(CONFIG, dropped("store", "clips", "val")),
    "clips of no test": rewritten(CONFIG, dropped("store", "clips", "test")),
    "clips of a fourth side": rewritten(CONFIG, put("store", "clips", "more", value=1)),
    "validation of all": rewritten(CONFIG, put("config", "data", "validation", value=1.0)),
    "a fold that is none": rewritten(CONFIG, put("config", "data", "fold", value=7)),
    "a fold of text": rewritten(CONFIG, put("config", "data", "fold", value="1")),
    "metrics of an unknown side": line({"step": 1, "epoch": 1, "split": "\x1b[2J", "top1": 0.5}),
    "metrics a number": line(3),
    "metrics without a step": line({"loss": 1.0}),
    "metrics of text": line({"step": "1"}),
    "metrics loss of text": line({"step": 1, "epoch": 1, "loss": "x", "lr": 1}),
    "metrics accuracy a list": line({"step": 1, "epoch": 1, "split": "test", "top1": [1]}),
    "metrics a pipe": fifo(LOG),
    "metrics a device": linked(LOG, "/dev/zero"),
    "metrics a link out": moved(LOG),
    "config a pipe": fifo(CONFIG),
    "config a terabyte": sparse(CONFIG),
    "config a link out": moved(CONFIG),
    "checkpoint a pipe": lambda root: fifo(str(newest(root).relative_to(root)))(root),
    "checkpoint a device": lambda root: linked(str(newest(root).relative_to(root)), "/dev/zero")(root),
    "checkpoint a link out": lambda root: moved(str(newest(root).relative_to(root)))(root),
    "checkpoint a terabyte": lambda root: sparse(str(newest(root).relative_to(root)))(root),
    "checkpoint a pickle bomb": checkpoint_bytes(pickled_bomb),
    "checkpoint a zip bomb": checkpoint_bytes(zip_bomb),
    "checkpoint a bare pickle": checkpoint_bytes(lambda _: pickle.dumps(Bomb())),
    "checkpoint of lying storages": checkpoint_bytes(lying_storage),
    "checkpoint empty": checkpoint_bytes(lambda _: b""),
    "checkpoint cut": checkpoint_bytes(lambda data: data[: len(data) // 2]),
    "checkpoint of text": checkpoint_bytes(lambda _: b"PK\x03\x04 nothing"),
    **{
        f"checkpoint without {name}": checkpoint(dropped(name))
        for name in ("format", "step", "model", "model_config", "store", "class_names", "optimizer", "average")
    },
    "checkpoint step of text": checkpoint(put("step", value="1")),
    "checkpoint of no validation clips": checkpoint(dropped("store", "clips", "val")),
    "checkpoint with test clips": checkpoint(lambda state: state["store"]["clips"].update(test=1)),
    "checkpoint with validation clips of text": checkpoint(put("store", "clips", "val", value="x")),
    "checkpoint more": checkpoint(put("extra", value=1)),
    "checkpoint weights of numbers": checkpoint(lambda state: state["model"].update(dict.fromkeys(state["model"], 1))),
    "checkpoint of a huge model": checkpoint(put("model_config", "width", value=1 << 30)),
    "checkpoint of a deep model": checkpoint(put("model_config", "encoder_depth", value=1 << 40)),
    "checkpoint of another model": checkpoint(put("model_config", "width", value=16)),
    "checkpoint of unknown settings": checkpoint(put("model_config", "surprise", value=1)),
    "checkpoint without a weight": checkpoint(lambda state: state["model"].popitem()),
    **{
        f"checkpoint with {name} of a billion lists": checkpoint(lambda state, name=name: repeated(state, name))
        for name in ("step", "config", "model_config", "store", "class_names", "optimizer", "extra")
    },
    "checkpoint of lists in themselves": checkpoint(lambda state: state["config"].update(x=state["config"])),
    "checkpoint of deep lists": checkpoint(put("config", "x", value=nested_lists(100))),
    "checkpoint of a tensor that repeats a number": checkpoint(lambda state: repeats(state, 1 << 14)),
    "checkpoint of tensors that are one": checkpoint(lambda state: one_memory(state, 1 << 10)),
    "checkpoint of tensors without numbers": checkpoint(each_weight(lambda value: value.to("meta"))),
    "checkpoint of sparse tensors": checkpoint(each_weight(lambda value: value.to_sparse())),
    "checkpoint of complex tensors": checkpoint(each_weight(lambda value: value.to(torch.complex64))),
    "checkpoint of halves": checkpoint(each_weight(lambda value: value.half())),
    "checkpoint of no numbers": checkpoint(each_weight(lambda value: value * torch.nan)),
    "checkpoint of infinities": checkpoint(each_weight(lambda value: value / 0)),
    "checkpoint of other shapes": checkpoint(each_weight(lambda value: value.reshape(-1))),
    "checkpoint of averages that are no numbers": checkpoint(
        lambda state: state["average"].update({name: value * torch.nan for name, value in state["average"].items()})
    ),
    "checkpoint of one average less": checkpoint(lambda state: state["average"].popitem()),
    "checkpoint's moments of text": checkpoint(each_state(lambda values: dict.fromkeys(values, "x"))),
    "checkpoint's moments less": checkpoint(each_state(lambda values: dict([*values.items()][:1]))),
    "checkpoint's moments no numbers": checkpoint(
        each_state(lambda values: {name: value * torch.nan for name, value in values.items()})
    ),
    "checkpoint's moments integers": checkpoint(
        each_state(lambda values: {name: value.long() for name, value in values.items()})
    ),
    "checkpoint with two files of a name": checkpoint_bytes(twice),
    "checkpoint a folder": lambda root: folder(str(newest(root).relative_to(root)))(root),
    "checkpoint a link to nothing": lambda root: linked(str(newest(root).relative_to(root)), "nothing")(root),
    "checkpoint newer, a folder": folder("run/checkpoint-99999999.pt"),
    "checkpoint newer, a link to a device": linked("run/checkpoint-99999999.pt", "/dev/zero"),
    "checkpoint of other averages": checkpoint(lambda state: state["average"].update(x=torch.zeros(3))),
}
SCORES: dict[str, Attack] = {
    "lying header": lying_header,
    "compressed": compressed_scores,
    "a pipe": fifo("run/test.npz"),
    "empty": bytes_of("run/test.npz", b""),
    "a pickle": bytes_of("run/test.npz", pickle.dumps(Bomb())),
    "a device": linked("run/test.npz", "/dev/zero"),
    "a terabyte": sparse("run/test.npz"),
    **{
        f"without {name}": scores(lambda arrays, name=name: arrays.pop(name))
        for name in (
            *("format", "clip_ids", "labels", "probabilities", "class_names", "split", "protocol"),
            *("subjects", "performances", "trained_on"),
        )
    },
    "without a checksum": unsealed_scores,
    "of another version": scores(lambda arrays: arrays.update(format=np.asarray("star-scores/9"))),
    "a version of numbers": scores(lambda arrays: arrays.update(format=np.arange(1000))),
    "a version with a bell": scores(lambda arrays: arrays.update(format=np.asarray("\a\n\x1b[2J"))),
    **{
        f"{name} {what}": scores(lambda arrays, name=name, change=change: arrays.update({name: change(arrays[name])}))
        for name in ("subjects", "performances")
        for what, change in {
            "of another length": lambda values: values[:-1],
            "below unknown": lambda values: values - 99,
            "of fractions": lambda values: values + 0.5,
            "of two axes": lambda values: values[None],
        }.items()
    },
    "trained on numbers": scores(lambda arrays: arrays.update(trained_on=np.arange(3))),
    "trained on objects": scores(lambda arrays: arrays.update(trained_on=np.asarray([{}], object))),
    "trained on a table": scores(lambda arrays: arrays.update(trained_on=arrays["trained_on"][None])),
    "objects": scores(lambda arrays: arrays.update(clip_ids=np.asarray([{}] * 4, object))),
    "labels out of range": scores(lambda arrays: arrays.update(labels=arrays["labels"] + 99)),
    "labels negative": scores(lambda arrays: arrays.update(labels=arrays["labels"] - 99)),
    "labels of another length": scores(lambda arrays: arrays.update(labels=arrays["labels"][:-1])),
    "scores of one axis": scores(lambda arrays: arrays.update(probabilities=arrays["probabilities"][0])),
    "scores not finite": scores(lambda arrays: arrays.update(probabilities=arrays["probabilities"] * np.nan)),
    "names of numbers": scores(lambda arrays: arrays.update(class_names=np.arange(2))),
    "no classes": scores(lambda arrays: arrays.update(class_names=np.asarray([], np.str_))),
}
# what is not read: the rates of a run are those of its settings
HARMLESS: dict[str, Attack] = {
    "checkpoint's groups without a rate": checkpoint(dropped("optimizer", "param_groups", 0, "lr")),
    "checkpoint's groups with a rate of text": checkpoint(put("optimizer", "param_groups", 0, "lr", value="x")),
    "checkpoint's groups with betas of text": checkpoint(put("optimizer", "param_groups", 0, "betas", value="xy")),
    "checkpoint's groups with a rate of no number": checkpoint(
        put("optimizer", "param_groups", 0, "weight_decay", value=float("nan"))
    ),
    "validation scores a pipe": fifo("run/val.npz"),
    "validation scores a pickle": bytes_of("run/val.npz", pickle.dumps(Bomb())),
    "validation scores a device": linked("run/val.npz", "/dev/zero"),
}
# where we write
LINKS: dict[str, Attack] = {
    **{
        f"{artifact}/{name} a {kind}": make(f"{artifact}/{name}")
        for artifact in ("store", "prepared", "run")
        for name in (".lock",)
        for kind, make in (("link", linked), ("hard link", hard_linked), ("pipe", fifo), ("folder", folder))
    },
    "prepared/log/attempts.jsonl a link": linked("prepared/log/attempts.jsonl"),
    "prepared/log/attempts.jsonl a hard link": hard_linked("prepared/log/attempts.jsonl"),
    "prepared/log/attempts.jsonl a pipe": fifo("prepared/log/attempts.jsonl"),
    "prepared/log a link": linked("prepared/log", "canaries"),
    "store/log a link": linked("store/log", "canaries"),
    "store/gg/c/1 a link": linked("store/gg/c/1", "canaries"),
    "store/status a link": linked("store/status/c/1/0"),
    "run/tensorboard a link": linked("run/tensorboard", "canaries"),
    "run/metrics.jsonl a link": linked("run/metrics.jsonl"),
    "run/test.npz a link": linked("run/test.npz"),
    "run/report.html a link": linked("run/report.html"),
    "prepared/manifest.jsonl a link": linked("prepared/manifest.jsonl"),
    "store/.part a link": linked("store/gg/.x.part-1"),
}
BOMBS = {
    **{
        f"store: {name}": ("store", STORE[name])
        for name in STORE
        if "terabyte" in name
        or "1 << " in name
        or "size " in name
        or name
        in (
            "shape larger",
            "a billion clips",
            "ids of a lying number",
            "ids of a lying length",
            "commit deep",
            "zarr.json deep",
        )
    },
    **{
        f"prepared: {name}": ("prepared", PREPARED[name])
        for name in ("HDF5 huge", "HDF5 filtered", "a billion clips", "dataset.json a terabyte", "dataset.json deep")
    },
    **{
        f"run: {name}": ("run", RUN[name])
        for name in (
            "checkpoint a zip bomb",
            "checkpoint of a huge model",
            "checkpoint of a deep model",
            "checkpoint with model_config of a billion lists",
            "checkpoint of a tensor that repeats a number",
            "config a terabyte",
            "checkpoint a terabyte",
            "config deep",
        )
    },
    **{f"scores: {name}": ("scores", SCORES[name]) for name in ("lying header", "compressed", "a terabyte")},
}
