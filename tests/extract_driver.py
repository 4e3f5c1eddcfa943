"""Runs stage 2 with the stub backbone in a process of its own, which a test may kill.

python extract_driver.py PREPARED OUT VIEWS WORKERS [SCHEDULER]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from extract_corpus import OPTIONS, install

from pipeline.extract.coordinator import extract


def main() -> None:
    prepared, out, views, workers, *scheduler = sys.argv[1:]
    install()
    account = extract(
        Path(prepared),
        out,
        replace(OPTIONS, views=int(views)),
        workers=int(workers),
        scheduler=scheduler[0] if scheduler else None,
        progress=lambda event: print(event.get("clip", "begun"), flush=True),
    )
    print("account", account.done, flush=True)


if __name__ == "__main__":
    main()
