"""Draw the README's picture: what the terminal really shows, as an SVG.

    python benchmarks/picture.py

Runs `headstart train` and `headstart predict` on ../shared/data/flowers with a new cache, and writes docs/train.svg.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from machine import SHARED

COMMAND = Path(sys.executable).with_name("headstart")
TARGET = Path(__file__).resolve().parents[1] / "docs" / "train.svg"


def main() -> None:
    """Run, record, write."""
    console = Console(record=True, width=146, file=open(os.devnull, "w"))
    with tempfile.TemporaryDirectory() as tmp:
        (Path(tmp) / "flowers").symlink_to(SHARED / "data" / "flowers")
        for words in (["train", "flowers"], ["predict", "flowers-run"]):
            if words[0] == "predict":  # photos that the classifier has not learnt from
                with (Path(tmp) / "flowers-run" / "predictions.csv").open(newline="") as file:
                    tested = [row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
                words += tested[0], tested[-1]
            done = subprocess.run(
                [COMMAND, *words],
                cwd=tmp,
                env={
                    **os.environ,
                    "HEADSTART_CACHE": tmp,
                    "PATH": f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}",
                },
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            console.print(Text(f"$ headstart {' '.join(words)}", style="bold"))
            console.print(Text(done.stdout))
    svg = console.export_svg(title="headstart")
    TARGET.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S))  # its fonts would come from elsewhere
    print(f"{TARGET} is drawn")


if __name__ == "__main__":
    main()
