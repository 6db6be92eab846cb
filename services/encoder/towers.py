"""The two towers of a SigLIP network as torch modules, built without weights and filled from safetensors files.

Parameters have transformers' names, so that checkpoints load as they are. SigLIP 2 with a fixed picture size is the
same network with another vocabulary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, linear, scaled_dot_product_attention

# transformers' names of them → the argument of `gelu`.
_ACTIVATIONS = {"gelu_pytorch_tanh": "tanh", "gelu": "none"}


ShapeT = TypeVar("ShapeT", bound="Layers")
TowerT = TypeVar("TowerT", bound=nn.Module)


class WeightsInvalid(Exception):
    """The configuration or the weights do not describe a SigLIP tower; the message says why."""


@dataclass(frozen=True, slots=True)
class Layers:
    """The shape of the layers of a tower. The defaults are those of transformers, which config.json omits."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    layer_norm_eps: float = 1e-6
    hidden_act: str = "gelu_pytorch_tanh"

    def __post_init__(self) -> None:
        if self.hidden_act not in _ACTIVATIONS:
            raise WeightsInvalid(f"hidden_act {self.hidden_act!r} is none of {', '.join(_ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise WeightsInvalid(f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} heads")


@dataclass(frozen=True, slots=True)
class VisionShape(Layers):
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    vision_use_head: bool = True

    def __post_init__(self) -> None:
        # Not super(), which a dataclass with slots breaks.
        Layers.__post_init__(self)
        if not (isinstance(self.image_size, int) and isinstance(self.patch_size, int) and self.vision_use_head):
            raise WeightsInvalid("the vision tower has no square picture or no pooling head")


@dataclass(frozen=True, slots=True)
class TextShape(Layers):
    vocab_size: int = 32000
    max_position_embeddings: int = 64
    projection_size: int | None = None


def vision_shape(config: dict[str, Any]) -> VisionShape:
    """From the content of config.json; raises WeightsInvalid."""
    return VisionShape(**_known(VisionShape, config.get("vision_config")))


def text_shape(config: dict[str, Any]) -> TextShape:
    """From the content of config.json; raises WeightsInvalid."""
    return TextShape(**_known(TextShape, config.get("text_config")))


class VisionTower(nn.Module):
    """Pixels [n, 3, image_size, image_size] → features [n, hidden_size], not normalised."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        patches = (shape.image_size // shape.patch_size) ** 2
        self.embeddings = nn.ModuleDict(
            {
                "patch_embedding": _PatchEmbedding(
                    shape.num_channels, shape.hidden_size, shape.patch_size, shape.patch_size
                ),
                "position_embedding": _Table(patches, shape.hidden_size),
            }
        )
        self.encoder = _Encoder(shape)
        self.post_layernorm = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.head = _AttentionPooling(shape)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.pool(self.encoder(self.embed(pixels)))

    def embed(self, pixels: Tensor) -> Tensor:
        """[n, patches, hidden_size], which the encoder's layers transform."""
        embedded: Tensor = self.embeddings["patch_embedding"](pixels) + self.embeddings["position_embedding"].weight
        return embedded

    def pool(self, hidden: Tensor) -> Tensor:
        """The features, from what the layers return."""
        features: Tensor = self.head(self.post_layernorm(hidden))
        return features


class TextTower(nn.Module):
    """Token ids [n, max_position_embeddings] → features [n, projection_size], not normalised.

    Texts are padded to the full length and pooled at the last position; no position is masked.
    """

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": _Table(shape.vocab_size, shape.hidden_size),
                "position_embedding": _Table(shape.max_position_embeddings, shape.hidden_size),
            }
        )
        self.encoder = _Encoder(shape)
        self.final_layer_norm = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.head = nn.Linear(shape.hidden_size, shape.projection_size or shape.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embeddings["token_embedding"](tokens) + self.embeddings["position_embedding"].weight
        features: Tensor = self.head(self.final_layer_norm(self.encoder(embedded)[:, -1]))
        return features


class _Table(nn.Module):
    """A row for each token or position. Not nn.Embedding, whose random values import torch's compiler."""

    weight: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, indices: Tensor) -> Tensor:
        return embedding(indices, self.weight)


class _PatchEmbedding(nn.Conv2d):
    """Pixels [n, channels, size, size] → [n, patches, hidden_size].

    Patches do not overlap, so the convolution is one matrix product, without the copies that a convolution makes.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        size = self.kernel_size[0]
        count, channels, extent, _ = pixels.shape
        across = extent // size
        within = across * size  # as in a convolution, pixels that do not fill a patch are left out
        rows = pixels[:, :, :within, :within].permute(0, 2, 3, 1).reshape(count, across, size, across, size * channels)
        patches = rows.transpose(2, 3).reshape(count, across * across, size * size * channels)
        return linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)


class _Encoder(nn.Module):
    def __init__(self, shape: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class _Layer(nn.Module):
    def __init__(self, shape: Layers) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.self_attn = _Attention(shape)
        self.layer_norm2 = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.mlp = _Mlp(shape)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, shape: Layers) -> None:
        super().__init__()
        self._heads = shape.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(shape.hidden_size, shape.hidden_size) for _ in range(4)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        count, length, width = hidden.shape
        query, key, value = (
            project(hidden).view(count, length, self._heads, -1).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = scaled_dot_product_attention(query, key, value)
        return self.out_proj(attended.transpose(1, 2).reshape(count, length, width))  # type: ignore[no-any-return]


class _Mlp(nn.Module):
    def __init__(self, shape: Layers) -> None:
        super().__init__()
        self._approximate = _ACTIVATIONS[shape.hidden_act]
        self.fc1 = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.fc2 = nn.Linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(hidden), approximate=self._approximate))  # type: ignore[no-any-return]


class _AttentionPooling(nn.Module):
    """One learnt query attends to all patches."""

    def __init__(self, shape: Layers) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, shape.hidden_size))
        self.attention = nn.MultiheadAttention(shape.hidden_size, shape.num_attention_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)
        self.mlp = _Mlp(shape)

    def forward(self, hidden: Tensor) -> Tensor:
        # The module itself multiplies keys and values by a copy of its weights for each patch: in bfloat16 on a CPU,
        # that takes longer than all layers.
        count, length, width = hidden.shape
        weights = torch.split(self.attention.in_proj_weight, [width, 2 * width])
        biases = torch.split(self.attention.in_proj_bias, [width, 2 * width])
        query = linear(self.probe, weights[0], biases[0]).expand(count, 1, width)
        key, value = linear(hidden, weights[1], biases[1]).view(count, length, 2, width).unbind(2)
        heads = self.attention.num_heads
        query, key, value = (
            each.reshape(count, -1, heads, width // heads).transpose(1, 2) for each in (query, key, value)
        )
        attended = scaled_dot_product_attention(query, key, value)
        pooled = self.attention.out_proj(attended.transpose(1, 2).reshape(count, width))
        return pooled + self.mlp(self.layernorm(pooled))  # type: ignore[no-any-return]


def load(
    build: Callable[[ShapeT], TowerT],
    shape: ShapeT,
    files: Iterable[Path],
    prefix: str,
    device: str,
    dtype: torch.dtype,
) -> TowerT:
    """A tower with the tensors in `files` whose names begin with `prefix`, read one by one onto the device.

    On a CPU, a tensor that already has the type `dtype` is a view of the file. Raises WeightsInvalid.
    """
    tower = check(build, shape, files, prefix)
    wanted = tower.state_dict().keys()
    state: dict[str, Tensor] = {}
    for path in files:
        with _opened(path, device) as file:
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                if name.startswith(prefix) and (short := name.removeprefix(prefix)) in wanted:
                    state[short] = file.get_tensor(name).to(dtype)
    tower.load_state_dict(state, assign=True)
    return tower.eval().requires_grad_(False)


def check(build: Callable[[ShapeT], TowerT], shape: ShapeT, files: Iterable[Path], prefix: str) -> TowerT:
    """The tower without weights; reads only the headers of `files`. Raises WeightsInvalid if tensors are missing."""
    with torch.device("meta"):
        tower = build(shape)
    found: dict[str, list[int]] = {}
    for path in files:
        with _opened(path, "cpu") as file:
            found |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    wanted = {prefix + name: list(tensor.shape) for name, tensor in tower.state_dict().items()}
    if missing := sorted(wanted.keys() - found.keys()):
        raise WeightsInvalid(f"the weights miss {len(missing)} tensors, such as {missing[0]}")
    for name, extents in wanted.items():
        if found[name] != extents:
            raise WeightsInvalid(f"{name} is {found[name]}, config.json makes it {extents}")
    return tower


def scalars(files: Iterable[Path], names: Iterable[str]) -> list[float]:
    """The single value of each of the tensors, as saved; raises WeightsInvalid."""
    found: dict[str, float] = {}
    wanted = list(names)
    for path in files:
        with _opened(path, "cpu") as file:
            found |= {name: file.get_tensor(name).float().item() for name in file.keys() if name in wanted}  # noqa: SIM118
    if missing := sorted(set(wanted) - found.keys()):
        raise WeightsInvalid(f"the weights miss {len(missing)} tensors, such as {missing[0]}")
    return [found[name] for name in wanted]


def _opened(path: Path, device: str) -> Any:
    # The library does not type it.
    opened: Any = safe_open
    return opened(path, framework="pt", device=device)


def _known(shape: type[Layers], section: Any) -> dict[str, Any]:
    fields = shape.__dataclass_fields__
    return {name: value for name, value in (section or {}).items() if name in fields}
