"""Checks an engine against transformers: tokenizer, preprocessing, embeddings and calibration."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from services.encoder.checkpoint import Checkpoint
from services.encoder.engine import Encoded, Engine
from services.encoder.reference_model import ReferenceModel
from services.encoder.siglip import Normalise

# Minimum cosine of the engine's embedding to that of transformers in float32: for float32, expected for lower
# precisions, and required for them, since rounding affects some models more.
_EXACT = 0.9999
_ROUNDED = 0.999
_ROUNDED_AT_LEAST = 0.99
# Minimum cosine of a picture resized as frames of videos to the same picture resized by the image processor.
_RESIZED = 0.99
# PIL's number of it.
_BILINEAR = 2
# Embeddings with at least this cosine count as equal.
_SAME = 0.9999
_PIXEL_DIFFERENCE = 1e-5
_UNIT_TOLERANCE = 1e-3
_SCALES = (1.0, 200.0)
_BIASES = (-50.0, 0.0)
# No model is trained on pixel values beyond the first, or in a range narrower than the second.
_FARTHEST_PIXEL_VALUE = 4.0
_NARROWEST_PIXEL_RANGE = 0.5
# transformers returns 1e30 for a tokenizer without a maximum length.
_UNLIMITED_TOKENS = 1_000_000

_FRAMES = 16
_PICTURES = 4
_SENTENCE = "a photo of a dog in the garden"
_SHORT_TEXTS = [_SENTENCE, "a boat", "two people cook in a kitchen"]
_LONG_TEXT = "a man walks to the station " * 60
_CAPITALS = "A Boat, two DOGS!"
_TEXTS = [*_SHORT_TEXTS, "Train, stops: in the STATION!", _LONG_TEXT]


class Outcome(StrEnum):
    PASS = "pass"
    WARN = "warn"
    SKIP = "skip"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; `advice` explains a result other than PASS and names a remedy."""

    check: str
    outcome: Outcome
    figures: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}  {self.check}: {'. '.join(filter(None, [self.figures, self.advice]))}"


class Deviation(Exception):
    """Raised by a check that does not pass."""

    def __init__(self, figures: str, advice: str, outcome: Outcome = Outcome.FAIL) -> None:
        super().__init__(figures)
        self.figures = figures
        self.advice = advice
        self.outcome = outcome


class Verification:
    """Checks of `engine`, loaded from `checkpoint`; they load the network again, in float32."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine) -> None:
        self._checkpoint = checkpoint
        self._engine = engine
        self._model = engine.model

        self._checks: dict[str, Callable[[], str]] = {
            "tokenizer": self._tokenizer,
            "pixel values": self._pixel_values,
            "resizing": self._resizing,
            "pictures": self._embeddings_of_pictures,
            "texts": self._embeddings_of_texts,
            "text padding": self._text_padding,
            "rows": self._rows,
            "logit scale and bias": self._logit_scale_and_bias,
            "size and speed": self._size_and_speed,
        }

    def findings(self) -> Iterator[Finding]:
        """One per check, as each completes."""
        return map(self.check, self._checks)

    def check(self, name: str) -> Finding:
        """A check that raises counts as failed."""
        try:
            return Finding(name, Outcome.PASS, self._checks[name]())
        except Deviation as found:
            return Finding(name, found.outcome, found.figures, found.advice)
        except Exception as error:
            problem = next(iter(str(error).splitlines()), "")
            return Finding(
                name,
                Outcome.FAIL,
                f"cannot be checked ({type(error).__name__}: {problem})",
                "Where the files of the checkpoint are not all of one revision, download them again",
            )

    @cached_property
    def _reference(self) -> ReferenceModel:
        return ReferenceModel(self._checkpoint)

    @cached_property
    def _chunk(self) -> Encoded:
        """16 frames, the 4 pictures repeated; encoded after a warm-up, so that its time is typical."""
        self._engine.warm_up()
        return self._engine.encode(np.tile(self._pictures, (_FRAMES // _PICTURES, 1, 1, 1)))

    @cached_property
    def _texts(self) -> NDArray[np.float32]:
        """The engine's embeddings of _TEXTS."""
        return self._engine.encode_texts(_TEXTS)

    @cached_property
    def _pictures(self) -> NDArray[np.uint8]:
        """Noise and scenes: uint8 [4, image_size, image_size, 3]."""
        size = self._model.image_size
        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        return np.stack([noise, *(scene(size, size, seed) for seed in range(1, _PICTURES))])

    def _tokenizer(self) -> str:
        tokenizer, config = self._reference.tokenizer, self._reference.text_config
        length, pad, eos = config.max_position_embeddings, tokenizer.pad_token_id, tokenizer.eos_token_id
        if tokenizer.model_max_length != length and tokenizer.model_max_length < _UNLIMITED_TOKENS:
            raise Deviation(
                f"made for {tokenizer.model_max_length} tokens, the text tower for {length}",
                "It is of another model; copy the tokenizer files of the weights",
            )
        highest = max(tokenizer.get_vocab().values())
        if highest >= config.vocab_size:
            raise Deviation(
                f"gives ids up to {highest}, the text tower has {config.vocab_size}",
                "It is of another model; copy the tokenizer files of the weights",
            )
        for name, used in (("pad_token_id", pad), ("eos_token_id", eos)):
            stated = getattr(config, name)
            # Real configurations carry transformers' defaults, which are those of no tokenizer.
            if stated not in (used, None, getattr(type(config)(), name)):
                raise Deviation(
                    f"{name} is {used}, config.json says {stated}",
                    "Tokenizer and weights are of different models; copy the tokenizer files of the weights",
                )
        short, long = self._reference.tokens([_SENTENCE, _LONG_TEXT])["input_ids"].tolist()
        bare = tokenizer(_SENTENCE)["input_ids"]
        if short != bare + [pad] * (length - len(bare)) or bare[-1] != eos or long[-1] != eos:
            raise Deviation(
                f"{len(bare)} tokens {bare} become {len(short)} tokens {short}; a long text ends with {long[-1]}",
                f"SigLIP reads {length} tokens; a text ends with {eos}, even a cut one, and is followed by {pad}; "
                "copy padding_side and the special tokens of tokenizer_config.json from the original",
            )
        # SigLIP's tokenizer removes capitals and punctuation, that of SigLIP 2 capitals alone.
        canonical = getattr(tokenizer, "canonicalize_text", str)(_SENTENCE)
        decoded = tokenizer.decode(short, skip_special_tokens=True).strip()
        if decoded != canonical:
            raise Deviation(
                f"{canonical!r} comes back as {decoded!r}",
                "The vocabulary is damaged or made for other texts; copy the tokenizer files of the weights",
            )
        rules = tokenizer.decode(tokenizer(_CAPITALS)["input_ids"], skip_special_tokens=True).strip()
        return (
            f"{length} tokens of {config.vocab_size}, padded with {pad}; {canonical!r} comes back, and "
            f"{_CAPITALS!r} as {rules!r}"
        )

    def _pixel_values(self) -> str:
        size = self._model.image_size
        theirs = self._reference.pixels(self._pictures)
        if theirs.shape[2:] != (size, size):
            raise Deviation(
                f"the image processor makes {list(theirs.shape[2:])}, the network takes {[size, size]}",
                "Correct size in preprocessor_config.json",
            )
        normalise = Normalise(self._checkpoint.preprocessing, torch.float32, "cpu")
        difference = float((normalise(torch.from_numpy(self._pictures)) - theirs).abs().max())
        if not difference < _PIXEL_DIFFERENCE:
            raise Deviation(
                f"ours differ from those of {type(self._reference.image_processor).__name__} by up to {difference:.2g}",
                "It does what this engine does not; name a SiglipImageProcessor in preprocessor_config.json, with "
                "image_mean, image_std and rescale_factor",
            )
        extremes = np.array([0, 255], np.uint8).repeat(3).reshape(2, 1, 1, 3)
        black, white = normalise(torch.from_numpy(extremes))
        lowest, highest = float(black.min()), float(white.max())
        figures = f"within {difference:.1g} of transformers' own; black is {lowest:.3g}, white {highest:.3g}"
        narrowest = float((white - black).min())
        if not (max(-lowest, highest) < _FARTHEST_PIXEL_VALUE and narrowest > _NARROWEST_PIXEL_RANGE):
            raise Deviation(
                figures,
                "No model is trained on such values; image_mean and image_std in preprocessor_config.json are for "
                "values of 0 to 1, as rescale_factor makes them",
            )
        if max(abs(lowest + 1), abs(highest - 1)) > _UNIT_TOLERANCE:
            raise Deviation(
                figures,
                "SigLIP's own checkpoints have -1 and 1; see that yours was trained with this image_mean and image_std",
                Outcome.WARN,
            )
        return figures

    def _resizing(self) -> str:
        try:
            from av.video.frame import VideoFrame
            from av.video.reformatter import Interpolation
        except ModuleNotFoundError:
            raise Deviation(
                "not checked, PyAV is not installed", "Install av, which resizes the frames of videos", Outcome.SKIP
            ) from None
        size = self._model.image_size
        large = [scene(size * 5 // 2, size * 9 // 2, seed) for seed in range(_PICTURES)]
        resized = [
            VideoFrame.from_ndarray(picture, "rgb24")
            .reformat(size, size, "rgb24", interpolation=Interpolation.BICUBIC, threads=1)
            .to_ndarray()
            for picture in large
        ]
        # Both in float32, so that they differ by resizing only.
        ours, theirs = (self._reference.embed_pixels(self._reference.pixels(pictures)) for pictures in (resized, large))
        cosine = _lowest(ours, theirs)
        figures = f"cosine {cosine:.4f} to pictures resized by the image processor"
        if not cosine >= _RESIZED:
            if self._reference.image_processor.resample == _BILINEAR:
                raise Deviation(
                    figures,
                    f"At least {_RESIZED} is expected. The model resizes bilinear, as SigLIP 2 does, and frames of "
                    "videos are resized bicubic: scores of videos differ a little from those of pictures",
                    Outcome.WARN,
                )
            raise Deviation(
                figures,
                f"At least {_RESIZED} is expected. Frames are stretched to a square, bicubic; see that "
                "preprocessor_config.json has resample 3, size with height and width, and no crop",
            )
        return figures

    def _embeddings_of_pictures(self) -> str:
        theirs = self._reference.embed_pixels(self._reference.pixels(self._pictures))
        return self._agreement(self._chunk.embeddings[:_PICTURES], theirs)

    def _embeddings_of_texts(self) -> str:
        return self._agreement(self._texts, self._reference.embed_tokens(self._reference.tokens(_TEXTS)["input_ids"]))

    def _agreement(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> str:
        cosine = _lowest(ours, theirs)
        exact = self._model.precision == "float32"
        figures = f"cosine {cosine:.6f} to those of transformers in float32"
        if not cosine >= (_EXACT if exact else _ROUNDED_AT_LEAST):
            raise Deviation(
                figures,
                f"At least {_EXACT if exact else _ROUNDED} is expected. This engine computes something else from these "
                "weights; check that they are finite, then report it with the versions of torch and transformers",
            )
        if not exact and cosine < _ROUNDED:
            raise Deviation(
                figures,
                f"{_ROUNDED} is expected of {self._model.precision}. The model may suffer from rounding: verify it in "
                "float32; if that passes, serve it with ENCODER_PRECISION=float16 or float32",
                Outcome.WARN,
            )
        return figures

    def _text_padding(self) -> str:
        padded = self._reference.tokens(_SHORT_TEXTS)
        full = self._reference.embed_tokens(padded["input_ids"])
        masked = self._reference.embed_tokens(padded["input_ids"], padded["attention_mask"])
        bare = np.concatenate(
            [
                self._reference.embed_tokens(tokens[mask.bool()].unsqueeze(0))
                for tokens, mask in zip(padded["input_ids"], padded["attention_mask"], strict=True)
            ]
        )
        ours = _lowest(self._texts[: len(_SHORT_TEXTS)], full)
        figures = (
            f"cosine {ours:.4f} to texts padded in full; those have {_lowest(full, bare):.4f} to texts without padding "
            f"and {_lowest(full, masked):.4f} to texts with an attention mask"
        )
        if not ours >= (_EXACT if self._model.precision == "float32" else _ROUNDED_AT_LEAST):
            raise Deviation(figures, "SigLIP reads a text at its last position, which must be that of the full length")
        # With few tokens a text may fill them.
        shorter = padded["attention_mask"].min(dim=1).values.numpy() == 0
        if not _highest(full[shorter], bare[shorter]) < _SAME:
            raise Deviation(
                figures, "The text tower does not look at what it is given; its weights are damaged or untrained"
            )
        return figures

    def _rows(self) -> str:
        frames, texts = self._chunk.embeddings, self._texts
        rows = np.concatenate([frames, texts])
        if not np.isfinite(rows).all():
            raise Deviation(
                f"{int((~np.isfinite(rows)).any(axis=1).sum())} of {len(rows)} hold values that are not finite",
                "The weights are damaged, or too large for this precision; download them again, or try float32",
            )
        length = float(np.abs(np.linalg.norm(rows, axis=1) - 1).max())
        repeated = frames.reshape(-1, _PICTURES, frames.shape[1])
        elsewhere = min(_lowest(repeated[0], again) for again in repeated[1:])
        alike = max(_highest_pair(repeated[0]), _highest_pair(texts))
        figures = (
            f"lengths within {length:.1g} of 1; the same picture elsewhere in the chunk has cosine {elsewhere:.6f}, "
            f"different inputs have at most {alike:.4f}"
        )
        if not (length < _UNIT_TOLERANCE and elsewhere >= _SAME):
            raise Deviation(figures, "This engine or its libraries are at fault; report it with their versions")
        if not alike < _SAME:
            raise Deviation(figures, "A tower does not look at what it is given; its weights are damaged or untrained")
        return figures

    def _logit_scale_and_bias(self) -> str:
        scale, bias = self._model.logit_scale, self._model.logit_bias
        figures = f"scale {scale:.5g}, bias {bias:.5g}"
        if not (_between(scale, _SCALES) and _between(bias, _BIASES)):
            raise Deviation(
                figures,
                f"A trained SigLIP has a scale of {_SCALES[0]:g} to {_SCALES[1]:g} and a bias of {_BIASES[0]:g} to "
                f"{_BIASES[1]:g}; probabilities would mean nothing. Download the weights again",
            )
        if (scale, bias) == (1, 0):
            raise Deviation(
                figures,
                "Those are the values before any training: the checkpoint is untrained or was saved without them, and "
                "probabilities mean nothing. Take logit_scale and logit_bias from the original",
                Outcome.WARN,
            )
        return figures

    def _size_and_speed(self) -> str:
        """Informative: always passes."""
        return (
            f"{self._reference.parameters:,} parameters, {self._chunk.compute_seconds:.3g} s for a chunk of 16 frames"
        )


def scene(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A picture of contrasting colour patches, uint8 [height, width, 3]; the same content at any size."""
    random = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height)[:, np.newaxis, np.newaxis], np.linspace(0, 1, width)[:, np.newaxis]
    picture = np.full((height, width, 3), 0.5)
    for _ in range(12):
        across, down = random.uniform(-6, 6, (2, 3))
        left, top = random.uniform(0, 1, (2, 3))
        picture += 0.7 * np.sin(2 * math.pi * (across * x + left)) * np.sin(2 * math.pi * (down * y + top))
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def _cosines(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of each row to the row with the same index; NaN where one is not finite."""
    cosines: NDArray[np.float32] = (rows * others).sum(axis=1)
    return cosines


def _lowest(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    return float(_cosines(rows, others).min())


def _highest(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    return float(_cosines(rows, others).max())


def _highest_pair(rows: NDArray[np.float32]) -> float:
    """The highest cosine of two different rows."""
    return float((rows @ rows.T)[~np.eye(len(rows), dtype=bool)].max())


def _between(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]
