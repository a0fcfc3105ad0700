"""Networks of other projects in a few plain lines of torch each, computed from the names of their files.

Nothing of the package is used: a file's tensors (`w`) and an image go in, and what that project's network says comes out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DIM, HEADS, DEPTH, PATCH = 32, 4, 2, 16
State = dict[str, Tensor]


def draw(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> State:
    """Random weights, large enough that every one of them shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}
    for name in state:
        if name.endswith(("running_var", "norm1.weight", "norm2.weight", "norm.weight")):
            state[name] = state[name].abs() + 0.5
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
    return state


def block_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    linear = {"attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM), "mlp.fc1": (4 * DIM, DIM), "mlp.fc2": (DIM, 4 * DIM)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in linear.items():
        shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    for name in ("norm1", "norm2"):
        shapes |= {f"{prefix}{name}.weight": (DIM,), f"{prefix}{name}.bias": (DIM,)}
    return shapes


def vit_shapes(positions: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, DIM), "pos_embed": (1, positions, DIM), "norm.weight": (DIM,), "norm.bias": (DIM,),
        "patch_embed.proj.weight": (DIM, 3, PATCH, PATCH), "patch_embed.proj.bias": (DIM,),
    }  # fmt: skip
    for number in range(DEPTH):
        shapes |= block_shapes(f"blocks.{number}.")
    return {prefix + name: shape for name, shape in shapes.items()}


def patches(w: State, x: Tensor, prefix: str = "", stride: int = PATCH) -> Tensor:
    bias = w.get(f"{prefix}patch_embed.proj.bias")
    return F.conv2d(x, w[f"{prefix}patch_embed.proj.weight"], bias, stride=stride).flatten(2).transpose(1, 2)


def norm(x: Tensor, w: State, name: str, eps: float = 1e-6) -> Tensor:
    return F.layer_norm(x, (DIM,), w[f"{name}.weight"], w[f"{name}.bias"], eps)


def attend(x: Tensor, qkv: Tensor, qkv_bias: Tensor, out: Tensor, out_bias: Tensor) -> Tensor:
    batch, length, _ = x.shape
    q, k, v = F.linear(x, qkv, qkv_bias).view(batch, length, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / (DIM // HEADS) ** 0.5).softmax(-1)
    return F.linear((weights @ v).transpose(1, 2).reshape(batch, length, DIM), out, out_bias)


def block(x: Tensor, w: State, p: str, scale: tuple[str, str] | None = None) -> Tensor:
    """`scale`: names of the two LayerScales."""
    one, two = (w[p + name] if scale else 1.0 for name in scale or ("", ""))
    y = attend(norm(x, w, f"{p}norm1"), *(w[f"{p}attn.{n}.{k}"] for n in ("qkv", "proj") for k in ("weight", "bias")))
    x = x + one * y
    y = F.gelu(F.linear(norm(x, w, f"{p}norm2"), w[f"{p}mlp.fc1.weight"], w[f"{p}mlp.fc1.bias"]))
    return x + two * F.linear(y, w[f"{p}mlp.fc2.weight"], w[f"{p}mlp.fc2.bias"])


def sequence(w: State, x: Tensor, tokens: list[str], prefix: str = "") -> Tensor:
    """Tokens and patches side by side."""
    return torch.cat([*(w[prefix + t].expand(len(x), -1, -1) for t in tokens), patches(w, x, prefix)], dim=1)


def run(
    x: Tensor, w: State, prefix: str = "", scale: tuple[str, str] | None = None, names: str = "blocks.{}."
) -> Tensor:
    for number in range(DEPTH):
        x = block(x, w, prefix + names.format(number), scale)
    return norm(x, w, f"{prefix}norm")


def timm(w: State, x: Tensor, prefix: str = "") -> Tensor:
    """DeiT, DINO, iBOT, MAE, LUPerson, TransReID: positions of CLS and patches. CLS."""
    return run(sequence(w, x, ["cls_token"], prefix) + w[f"{prefix}pos_embed"], w, prefix)[:, 0]


def deit_distilled(w: State, x: Tensor) -> Tensor:
    return run(sequence(w, x, ["cls_token", "dist_token"]) + w["pos_embed"], w)[:, 0]


def deit3(w: State, x: Tensor) -> Tensor:
    seen = torch.cat([w["cls_token"].expand(len(x), -1, -1), patches(w, x) + w["pos_embed"]], dim=1)
    return run(seen, w, scale=("gamma_1", "gamma_2"))[:, 0]


def dinov2(w: State, x: Tensor, names: str = "blocks.{}.") -> Tensor:
    seen = sequence(w, x, ["cls_token"]) + w["pos_embed"]
    if "register_tokens" in w:
        seen = torch.cat([seen[:, :1], w["register_tokens"].expand(len(x), -1, -1), seen[:, 1:]], dim=1)
    return run(seen, w, scale=("ls1.gamma", "ls2.gamma"), names=names)[:, 0]


def clip(w: State, x: Tensor, p: str = "visual.") -> Tensor:
    """CLS after the last norm, before the projection."""
    seen = F.conv2d(x, w[f"{p}conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    seen = torch.cat([w[f"{p}class_embedding"].expand(len(x), 1, -1), seen], dim=1) + w[f"{p}positional_embedding"]
    seen = norm(seen, w, f"{p}ln_pre", 1e-5)
    for number in range(DEPTH):
        b = f"{p}transformer.resblocks.{number}."
        seen = seen + attend(
            norm(seen, w, f"{b}ln_1", 1e-5), w[f"{b}attn.in_proj_weight"], w[f"{b}attn.in_proj_bias"],
            w[f"{b}attn.out_proj.weight"], w[f"{b}attn.out_proj.bias"],
        )  # fmt: skip
        y = F.linear(norm(seen, w, f"{b}ln_2", 1e-5), w[f"{b}mlp.c_fc.weight"], w[f"{b}mlp.c_fc.bias"])
        seen = seen + F.linear(y * torch.sigmoid(1.702 * y), w[f"{b}mlp.c_proj.weight"], w[f"{b}mlp.c_proj.bias"])
    return norm(seen, w, f"{p}ln_post", 1e-5)[:, 0]


def clip_shapes(positions: int, p: str = "visual.") -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{p}class_embedding": (DIM,), f"{p}positional_embedding": (positions, DIM), f"{p}proj": (DIM, 16),
        f"{p}conv1.weight": (DIM, 3, PATCH, PATCH),
    }  # fmt: skip
    for name in ("ln_pre", "ln_post"):
        shapes |= {f"{p}{name}.weight": (DIM,), f"{p}{name}.bias": (DIM,)}
    for number in range(DEPTH):
        b = f"{p}transformer.resblocks.{number}."
        shapes |= {f"{b}attn.in_proj_weight": (3 * DIM, DIM), f"{b}attn.in_proj_bias": (3 * DIM,)}
        for name, shape in (
            ("attn.out_proj", (DIM, DIM)),
            ("mlp.c_fc", (4 * DIM, DIM)),
            ("mlp.c_proj", (DIM, 4 * DIM)),
        ):
            shapes |= {f"{b}{name}.weight": shape, f"{b}{name}.bias": shape[:1]}
        shapes |= {f"{b}{name}.{kind}": (DIM,) for name in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return shapes


def neck(x: Tensor, w: State, name: str) -> Tensor:
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    return (x - mean) / (var + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def transreid_jpm(w: State, x: Tensor, shift: int = 5, groups: int = 2, divide: int = 4, after: bool = False) -> Tensor:
    """Global and local features as tested, side by side (patches are a multiple of the groups)."""
    seen = sequence(w, x, ["cls_token"], "base.") + w["base.pos_embed"]
    for number in range(DEPTH - 1):
        seen = block(seen, w, f"base.blocks.{number}.")
    features = [norm(block(seen, w, "b1.0."), w, "b1.1")[:, 0]]
    body = torch.cat([seen[:, shift:], seen[:, 1:shift]], dim=1)  # their shift counts CLS
    body = body.view(len(x), groups, -1, DIM).transpose(1, 2).reshape(len(x), -1, DIM)
    for part in body.chunk(divide, dim=1):
        features.append(norm(block(torch.cat([seen[:, :1], part], dim=1), w, "b2.0."), w, "b2.1")[:, 0])
    if after:
        features = [neck(f, w, f"bottleneck{f'_{i}' if i else ''}") for i, f in enumerate(features)]
    return torch.cat([features[0], *(f / divide for f in features[1:])], dim=1)


def pass_tokens(w: State, x: Tensor, prefix: str = "") -> Tensor:
    """CLS and the three part tokens."""
    tokens = ["cls_token", "part_token1", "part_token2", "part_token3"]
    positions = [w[prefix + n] for n in ("cls_pos", "part1_pos", "part2_pos", "part3_pos", "pos_embed")]
    return run(sequence(w, x, tokens, prefix) + torch.cat(positions, dim=1), w, prefix)[:, :4]


def fine_tuned_pass(w: State, x: Tensor) -> Tensor:
    """The feature after the neck: CLS beside the mean of the parts."""
    cls, *parts = pass_tokens(w, x, "base.").unbind(1)
    if "bottleneck_1.weight" not in w:
        return neck(torch.cat([cls, sum(parts) / 3], dim=1), w, "bottleneck")
    parts = [neck(part, w, f"bottleneck_{i}") for i, part in enumerate(parts, start=1)]
    return torch.cat([neck(cls, w, "bottleneck"), sum(parts) / 3], dim=1)


def ics_patches(w: State, x: Tensor) -> Tensor:
    """TransReID-SSL's stem in eval mode."""
    p = "patch_embed.conv."
    for number, padding, stride in ((0, 3, 2), (3, 1, 1)):
        x = F.conv2d(x, w[f"{p}{number}.weight"], stride=stride, padding=padding)
        first, second = x[:, :32], x[:, 32:]
        first = F.instance_norm(first, weight=w[f"{p}{number + 1}.IN.weight"], bias=w[f"{p}{number + 1}.IN.bias"])
        x = F.relu(torch.cat([first, _batch_norm(second, w, f"{p}{number + 1}.BN")], dim=1))
    x = F.relu(_batch_norm(F.conv2d(x, w[f"{p}6.weight"], padding=1), w, f"{p}7"))
    return F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=8).flatten(2).transpose(1, 2)


def _batch_norm(x: Tensor, w: State, name: str) -> Tensor:
    return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"])


def ics(w: State, x: Tensor) -> Tensor:
    seen = torch.cat([w["cls_token"].expand(len(x), -1, -1), ics_patches(w, x)], dim=1) + w["pos_embed"]
    return run(seen, w)[:, 0]


def ics_shapes(positions: int) -> dict[str, tuple[int, ...]]:
    shapes = vit_shapes(positions) | {
        "patch_embed.proj.weight": (DIM, 64, 8, 8),
        "patch_embed.conv.0.weight": (64, 3, 7, 7),
    }
    shapes |= {f"patch_embed.conv.{n}.weight": (64, 64, 3, 3) for n in (3, 6)}
    for name, size in (("1.BN", 32), ("4.BN", 32), ("7", 64)):
        kinds = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"patch_embed.conv.{name}.{kind}": (size,) for kind in kinds}
        shapes[f"patch_embed.conv.{name}.num_batches_tracked"] = ()
    return shapes | {f"patch_embed.conv.{n}.IN.{kind}": (32,) for n in (1, 4) for kind in ("weight", "bias")}
