"""The encoder on this machine's GPU, or a small model on its CPU: python -m benchmarks.encoder [--compile]

Models have random weights and are made on the spot: the size of google/siglip-so400m-patch14-384 on a GPU, one of
6 layers on a CPU. "Naive" is PIL, transformers' processor and model, under autocast on a GPU. FLOPs are those of the
network; the peak is that of a large matrix product in the same run and precision. Chunks have 16 frames. On a CPU,
torch.compile takes minutes: it is measured with --compile only; and "naive : way" is of CPU time, on a GPU of seconds.

"Service" is an encoder process, called through gRPC by as many callers as it has permits. Busy is the time that the
device computed or copied, by what the encoder reports, and host CPU the user and system time of that process.
"""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.encoder import checkpoint, siglip, towers
from services.encoder.bundled.siglip_files import write_preprocessing
from services.encoder.engine import StartupError
from videoanalysis import logs

FRAMES = 16
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
SMALL = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "image_size": 224,
    "patch_size": 16,
}
BUNDLED = Path(__file__).parents[1] / "services" / "encoder" / "bundled" / "rendered-scenes"
COMPILE = "--compile"
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
# By then the last way and the last service are begun, so that the whole ends within eight minutes.
LAST_WAY_SECONDS, LAST_SERVICE_SECONDS = 150, 320
ROUNDS = 9 if ON_GPU else 5
SERVICE_SECONDS = 8.0
START_LIMIT_SECONDS, STOP_LIMIT_SECONDS = 120, 60
PIECE_BYTES = 1 << 20

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def flops_per_frame(shape: dict[str, int]) -> int:
    """Of the vision tower: two for each multiplication of its matrix products, attention included."""
    width, hidden = shape["hidden_size"], shape["intermediate_size"]
    tokens = (shape["image_size"] // shape["patch_size"]) ** 2
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    layer = attention + 2 * tokens * width * hidden
    patches = tokens * width * 3 * shape["patch_size"] ** 2
    pooling = 2 * tokens * width**2 + 2 * tokens * width + 2 * width**2 + 2 * width * hidden
    return 2 * (shape["num_hidden_layers"] * layer + patches + pooling)


def make_checkpoint(directory: Path, shape: dict[str, int]) -> None:
    from safetensors.torch import save_file

    text = {"hidden_size": shape["hidden_size"], "intermediate_size": 64, "num_hidden_layers": 1}
    config: dict[str, Any] = {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "vision_config": shape,
        "text_config": {**text, "num_attention_heads": shape["num_attention_heads"], "vocab_size": 256},
    }
    with torch.device("meta"):
        parts = {
            "vision_model.": towers.VisionTower(towers.vision_shape(config)),
            "text_model.": towers.TextTower(towers.text_shape(config)),
        }
    torch.manual_seed(0)
    weights = {
        prefix + name: _random(name, parameter.shape)
        for prefix, tower in parts.items()
        for name, parameter in tower.named_parameters()
    }
    scalars = {"logit_scale": torch.tensor([4.7]), "logit_bias": torch.tensor([-16.5])}
    directory.mkdir()
    save_file(weights | scalars, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config))
    write_preprocessing(directory, shape["image_size"])
    for name in ("spiece.model", "tokenizer_config.json"):
        shutil.copyfile(BUNDLED / name, directory / name)


def _random(name: str, shape: torch.Size) -> torch.Tensor:
    """As a network is initialised, with a probe and positions that make pictures differ."""
    if "norm" in name:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    spread = 1.0 if "probe" in name or "position" in name else 0.02
    return torch.empty(shape).normal_(std=spread)


def chunk(size: int, seed: int) -> NDArray[np.uint8]:
    """Noise of changing colour and grain."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 200, (FRAMES, 1, 1, 3))
    grain = random.integers(1, 56, (FRAMES, 1, 1, 1))
    return (colours + random.integers(0, 256, (FRAMES, size, size, 3)) % grain).astype(np.uint8)


class Transformers:
    """transformers' own model; as the naive way on the device, and in float32 as the reference."""

    def __init__(self, directory: Path, device: str) -> None:
        from transformers import SiglipModel

        try:
            from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil as Processor
        except ImportError:  # before transformers 5, where the plain class is this one
            from transformers import SiglipImageProcessor as Processor

        self._device = device
        self._processor: Any = Processor.from_pretrained(directory)
        model: Any = SiglipModel
        self._model = model.from_pretrained(directory, dtype=torch.float32).eval().to(device)

    def __call__(self, frames: NDArray[np.uint8], autocast: bool = True) -> NDArray[np.float32]:
        from PIL import Image

        images = [Image.fromarray(frame) for frame in frames]
        inputs = self._processor(images=images, return_tensors="pt").to(self._device)
        with torch.no_grad(), torch.autocast(self._device, enabled=autocast and self._device == "cuda"):
            features = self._model.get_image_features(**inputs)
        features = getattr(features, "pooler_output", features).float()
        rows: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=-1).cpu().numpy()
        return rows


def matmul_flops(precision: str) -> float:
    """FLOP/s of a large matrix product, the fastest of several."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    extent, repeats = (8192, 20) if ON_GPU else (1536, 5)
    left, right = (torch.randn(extent, extent, device=DEVICE, dtype=dtype) for _ in range(2))
    best = 0.0
    with torch.inference_mode():
        for _ in range(repeats):
            synchronize()
            started = time.perf_counter()
            torch.matmul(left, right)
            synchronize()
            best = max(best, 2 * extent**3 / (time.perf_counter() - started))
    return best


def synchronize() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def ways(directory: Path, notes: list[str], started: float) -> dict[str, tuple[str, Encode]]:
    """Name → precision of its peak and what embeds a chunk. What cannot be had is a note."""
    naive = Transformers(directory, DEVICE)
    found: dict[str, tuple[str, Encode]] = {
        "naive: PIL, processor" + (", autocast" if ON_GPU else ""): ("float16" if ON_GPU else "float32", naive)
    }
    wanted = [
        ("bfloat16", "off"),
        ("bfloat16", "max-autotune-no-cudagraphs"),
        ("bfloat16", "max-autotune"),
        ("fp8", "off"),
    ]
    if not ON_GPU:
        modes = ["off", "default"] if COMPILE in sys.argv else ["off"]
        wanted = [(precision, mode) for precision in ("float32", "bfloat16") for mode in modes]
    for precision, mode in wanted:
        name = f"ours, {precision}" + ("" if mode == "off" else f", compiled ({mode})")
        if time.monotonic() - started > LAST_WAY_SECONDS:
            notes.append(f"{name}: not measured, for lack of time")
            continue
        try:
            engine = siglip.load(
                checkpoint.resolve(str(directory), None),
                device=DEVICE,
                precision=precision,
                torch_threads=0,
                compile_mode=mode,
            )
        except StartupError as refusal:
            notes.append(f"{name}: {refusal}")
            continue
        loaded = time.monotonic()
        engine.warm_up()
        if mode != "off":
            notes.append(f"{name}: warm-up {time.monotonic() - loaded:.0f} s")
        found[name] = ("bfloat16" if precision == "fp8" else precision, _embeddings_of(engine))
    return found


def _embeddings_of(engine: siglip.SiglipEngine) -> Encode:
    buffer = engine.allocate(FRAMES * engine.model.image_size**2 * 3)

    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        buffer[:] = frames.reshape(-1)
        return engine.encode(buffer.reshape(frames.shape)).embeddings

    return encode


def compare(directory: Path, shape: dict[str, int], notes: list[str], started: float) -> str:
    """The table of the ways to embed a chunk, one after the other in each of several rounds."""
    frames = chunk(shape["image_size"], seed=1)
    exact = Transformers(directory, DEVICE)(frames, autocast=False)
    found = ways(directory, notes, started)
    peaks = {precision: matmul_flops(precision) for precision, _ in found.values()}
    cosines = {name: float((encode(frames) * exact).sum(axis=1).min()) for name, (_, encode) in found.items()}
    seconds: dict[str, list[float]] = {name: [] for name in found}
    cpu: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, (_, encode) in found.items():
            began, used = time.perf_counter(), time.process_time()
            encode(frames)
            seconds[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - used)
    flops = FRAMES * flops_per_frame(shape)
    naive = next(iter(found))
    lines = [
        "| way | ms a chunk | naive : way | TFLOP/s | of the peak | CPU ms | lowest cosine to float32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (precision, _) in found.items():
        middle = statistics.median(seconds[name])
        # Other work on the same cores changes the seconds of a CPU, and less the CPU time.
        times = seconds if ON_GPU else cpu
        lines.append(
            f"| {name} | {middle * 1e3:.1f} | {statistics.median(times[naive]) / statistics.median(times[name]):.1f} "
            f"| {flops / middle / 1e12:.3g} | {flops / middle / peaks[precision]:.0%} "
            f"| {statistics.median(cpu[name]) * 1e3:.1f} | {cosines[name]:.5f} |"
        )
    measured = ", ".join(f"{precision} {peak / 1e12:.3g} TFLOP/s" for precision, peak in peaks.items())
    notes.insert(
        0, f"peak of matrix products: {measured}; {flops / 1e12:.3g} TFLOP a chunk; medians of {ROUNDS} rounds"
    )
    return "\n".join(lines)


def serve(directory: Path, shape: dict[str, int], **settings: object) -> str:
    """A row of the table of services."""
    with encoder_process(directory, settings) as (process, address, start_seconds):
        computed, seconds, host = asyncio.run(
            load(process.pid, address, chunk(shape["image_size"], seed=2), int(str(settings["max_in_flight"])))
        )
    named = ", ".join(f"{name}={value}" for name, value in settings.items())
    return (
        f"| {named} | {start_seconds:.1f} | {len(computed) / seconds:.2f} | {sum(computed) / seconds:.0%} "
        f"| {host / len(computed) * 1e3:.1f} |"
    )


async def load(pid: int, address: str, frames: NDArray[np.uint8], callers: int) -> tuple[list[float], float, float]:
    """The compute seconds of each chunk, the seconds that all took, and the CPU seconds of the encoder."""
    from videoanalysis.channels import connect
    from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

    async with connect(address) as channel:
        stub = EncoderServiceStub(channel)  # type: ignore[no-untyped-call]
        await call(stub, frames)
        began, used = time.perf_counter(), cpu_seconds(pid)
        computed = await asyncio.gather(*(calls(stub, frames, began + SERVICE_SECONDS) for _ in range(callers)))
        seconds, host = time.perf_counter() - began, cpu_seconds(pid) - used
    return [each for caller in computed for each in caller], seconds, host


@contextmanager
def encoder_process(
    directory: Path, settings: dict[str, object]
) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """The process, its address, and the seconds until it was ready."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "address")
        wanted = {
            "model": directory,
            "host": "127.0.0.1",
            "port": 0,
            "health_port": "",
            "address_file": file,
            **settings,
        }
        variables = {f"ENCODER_{name.upper()}": str(value) for name, value in wanted.items()}
        variables["ENCODER_LOG_LEVEL"] = "warning"
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "services.encoder"], env=os.environ | variables, cwd=Path(__file__).parents[1]
        )
        try:
            while not file.exists():
                if process.poll() is not None or time.perf_counter() - started > START_LIMIT_SECONDS:
                    raise RuntimeError(f"the encoder did not start with {settings}")
                time.sleep(0.05)
            yield process, file.read_text(), time.perf_counter() - started
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def calls(stub: Any, frames: NDArray[np.uint8], until: float) -> list[float]:
    """The compute seconds of one chunk after the other."""
    computed = []
    while time.perf_counter() < until:
        computed.append(await call(stub, frames))
    return computed


async def call(stub: Any, frames: NDArray[np.uint8]) -> float:
    from videoanalysis.v1.encoder_pb2 import PIXEL_FORMAT_RGB24, ChunkHeader, EncodeChunkRequest

    count, height, width, _ = frames.shape
    header = ChunkHeader(frames=count, height=height, width=width, pixel_format=PIXEL_FORMAT_RGB24)
    stream = stub.EncodeChunk(timeout=120)
    await stream.write(EncodeChunkRequest(header=header))
    while not (await stream.read()).HasField("admitted"):
        pass
    view = memoryview(frames.reshape(-1))
    for start in range(0, len(view), PIECE_BYTES):
        await stream.write(EncodeChunkRequest(piece=bytes(view[start : start + PIECE_BYTES])))
    await stream.done_writing()
    seconds: float = (await stream.read()).result.compute.ToNanoseconds() / 1e9
    return seconds


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def services(directory: Path, shape: dict[str, int], notes: list[str], started: float) -> str:
    lines = [
        "| service | start-up, s | chunks/s | busy | host CPU ms a chunk |",
        "|---|---|---|---|---|",
    ]
    modes = ["off", "max-autotune-no-cudagraphs", "max-autotune"] if ON_GPU else ["off"]
    variants: list[dict[str, object]] = [{"max_in_flight": 2, "compile": mode} for mode in modes]
    variants.append({"max_in_flight": 4, "max_batch_chunks": 2, "compile": "off"})
    for settings in variants:
        if time.monotonic() - started > LAST_SERVICE_SECONDS:
            notes.append(f"service with {settings}: not measured, for lack of time")
            continue
        try:
            lines.append(serve(directory, shape, **settings))
        except (ImportError, RuntimeError) as error:  # such as generated code that needs a newer grpcio
            notes.append(f"service with {settings}: not measured, {next(iter(str(error).splitlines()), '')}")
    return "\n".join(lines)


def main() -> None:
    # Read when torch is loaded; the encoder sets it too.
    if "OMP_WAIT_POLICY" not in os.environ:
        command = [sys.executable, "-m", "benchmarks.encoder", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    import transformers

    logs.configure("warning", "console")  # to standard error
    started = time.monotonic()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shape = SO400M if ON_GPU else SMALL
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="encoder-benchmark-") as temporary:
        directory = Path(temporary, "model")
        make_checkpoint(directory, shape)
        compared = compare(directory, shape, notes, started)
        served = services(directory, shape, notes, started)
    device = (
        torch.cuda.get_device_name() if ON_GPU else f"no GPU: a small model on {torch.get_num_threads()} CPU threads"
    )
    size = f"{shape['num_hidden_layers']} layers of {shape['hidden_size']}, {shape['image_size']} px"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{device}; {size}, random weights; {versions}.\n\n{compared}\n\n{served}\n")
    print("\n".join(f"- {note}" for note in notes))


if __name__ == "__main__":
    main()
