"""Start of an encoder, by the form of its model: python -m benchmarks.encoder_start [RUNS]

A model of the size of google/siglip-so400m-patch14-384 with random weights is made in a temporary directory (3.5 GB in
float32; 7 GiB of disk are needed), prepared, and removed afterwards. Every start is a process of its own, the ways
alternate, and the files are in the page cache. Figures are medians: seconds from the start of the process, CPU seconds
(user and system), and the peak of resident memory once every weight has been read, pages of mapped files included.

"torch and weights" imports torch and reads the file of the prepared vision tower: the floor. "transformers" reads both
towers with SiglipModel.from_pretrained, hashes the files meanwhile and rounds then. "encoder" is all of
`python -m services.encoder` before the first chunk is computed: imports, settings, weights and digest.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
BUNDLED = Path(__file__).parents[1] / "services" / "encoder" / "bundled" / "rendered-scenes"
END = """
import gc, json, os, resource, time
usage = resource.getrusage(resource.RUSAGE_SELF)
figures = {"seconds": time.monotonic() - float(os.environ["STARTED"]), "cpu": usage.ru_utime + usage.ru_stime}
for tower in [found for found in gc.get_objects() if type(found).__name__ in ("VisionTower", "SiglipModel")]:
    for parameter in tower.parameters():
        parameter.sum()
figures["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps(figures), flush=True)
os._exit(0)
"""
FLOOR = """
import os, torch
from pathlib import Path
weights = Path(os.environ["ENCODER_MODEL"], "vision.safetensors").read_bytes()
"""
TRANSFORMERS = """
import os, torch
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from services.encoder import __main__, checkpoint
from transformers import AutoTokenizer, SiglipModel
directory = os.environ["ENCODER_MODEL"]
with ThreadPoolExecutor(1) as hashing:
    digest = hashing.submit(lambda: checkpoint.resolve(directory, None).digest)
    network = SiglipModel.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    digest.result()
network.to(dtype=getattr(torch, os.environ["ENCODER_PRECISION"]))
"""
ENCODER = """
from services.encoder import __main__, settings
from videoanalysis.settings import read_settings
engine = __main__.load_engine(read_settings(settings.EncoderSettings))
"""
PREPARE = """
from services.encoder import prepare
prepare.main()
"""
WAYS = {  # script, whether the model is prepared, precision
    "torch and weights": (FLOOR, True, ""),
    "transformers, whole model, float32": (TRANSFORMERS, False, "float32"),
    "transformers, whole model, bfloat16": (TRANSFORMERS, False, "bfloat16"),
    "encoder, whole model, float32": (ENCODER, False, "float32"),
    "encoder, whole model, bfloat16": (ENCODER, False, "bfloat16"),
    "encoder, prepared model, bfloat16": (ENCODER, True, "bfloat16"),
}


def make_model(directory: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from services.encoder import towers
    from services.encoder.bundled.siglip_files import write_preprocessing

    config: dict[str, Any] = {
        "model_type": "siglip",
        "vision_config": {**SO400M, "image_size": 384, "patch_size": 14},
        "text_config": {**SO400M, "vocab_size": 32_000},
    }
    with torch.device("meta"):
        parts = {
            "vision_model.": towers.VisionTower(towers.vision_shape(config)),
            "text_model.": towers.TextTower(towers.text_shape(config)),
        }
    weights = {
        prefix + name: torch.empty(parameter.shape).normal_(std=0.02)
        for prefix, tower in parts.items()
        for name, parameter in tower.named_parameters()
    }
    directory.mkdir()
    save_file(
        weights | {"logit_scale": torch.tensor([4.7]), "logit_bias": torch.tensor([-16.5])},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
    (directory / "config.json").write_text(json.dumps(config))
    write_preprocessing(directory, 384)
    for name in ("spiece.model", "tokenizer_config.json"):
        shutil.copyfile(BUNDLED / name, directory / name)


def start(script: str, model: Path, precision: str) -> dict[str, float]:
    environment = {
        **os.environ,
        "ENCODER_MODEL": str(model),
        "ENCODER_DEVICE": "cpu",
        "ENCODER_PRECISION": precision,
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
        "STARTED": str(time.monotonic()),
    }
    command = [sys.executable, "-c", script + END]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    figures: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="encoder-start-") as temporary:
        whole, prepared = Path(temporary, "whole"), Path(temporary, "prepared")
        if shutil.disk_usage(temporary).free < 7 << 30:
            sys.exit(f"{temporary}: 7 GiB of free disk are needed")
        # In processes of their own, so that this one stays small.
        in_process(f"from benchmarks.encoder_start import make_model; make_model(Path({str(whole)!r}))")
        prepare = start(f"import sys; sys.argv[1:] = {[str(whole), str(prepared)]!r}\n" + PREPARE, whole, "")
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(runs):
            for way, (script, is_prepared, precision) in WAYS.items():
                found[way].append(start(script, prepared if is_prepared else whole, precision))
        sizes = {path.name: path.stat().st_size / 1e9 for path in prepared.glob("*.safetensors")}
    median = {
        way: {name: statistics.median(run[name] for run in results) for name in results[0]}
        for way, results in found.items()
    }
    floor = median["torch and weights"]
    print(
        "| start | seconds | to the first row | CPU seconds | to the first row | peak RSS, GiB |\n"
        "|---|---|---|---|---|---|"
    )
    for way, figures in median.items():
        seconds, cpu = figures["seconds"], figures["cpu"]
        print(
            f"| {way} | {seconds:.1f} | {seconds / floor['seconds']:.2f} | {cpu:.1f} | {cpu / floor['cpu']:.2f} "
            f"| {figures['gib']:.2f} |"
        )
    print(
        f"\nPreparing took {prepare['seconds']:.0f} s and {prepare['gib']:.2f} GiB; files: "
        + ", ".join(f"{name} {size:.2f} GB" for name, size in sorted(sizes.items()))
        + f". Medians of {runs} runs."
    )


def in_process(statement: str) -> None:
    subprocess.run([sys.executable, "-c", f"from pathlib import Path\n{statement}"], check=True)


if __name__ == "__main__":
    main()
