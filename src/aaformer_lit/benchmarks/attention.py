"""One MAA layer with five part tokens against timm's attention on the same patches without them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aaformer_lit.benchmarks.measure import Measurement, check, compare, flops_of, product_rate

if TYPE_CHECKING:
    from timm.models.vision_transformer import Attention

    from aaformer_lit.assign import Sinkhorn

PARTS = (2, 3)
GRID = (16, 8)


def attention(full: bool, repeats: int) -> Iterator[Measurement]:
    """AutoAlignedAttention over CLS, 5 parts and 128 patches against timm's attention over CLS and 128 patches."""
    from timm.models.vision_transformer import Attention

    from aaformer_lit.assign import Placed, Sinkhorn
    from aaformer_lit.models.attention import AutoAlignedAttention

    batch, dim, heads = (8, 768, 12) if full else (2, 192, 3)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = Attention(dim, heads, qkv_bias=True).to(device)
    patches = GRID[0] * GRID[1]
    sequence = torch.randn(batch, 1 + sum(PARTS) + patches, dim, device=device)
    without = torch.cat([sequence[:, :1], sequence[:, 1 + sum(PARTS) :]], dim=1)
    forms = {"argmax": Sinkhorn(), "soft with a cost of place": Placed(rounding="soft")}
    for assigner in forms.values():
        isolated = AutoAlignedAttention(copy.deepcopy(plain), PARTS, assigner, visibility="isolated")
        with torch.no_grad():
            output = isolated(sequence, GRID)[0]
            check("attention", torch.cat([output[:, :1], output[:, 1 + sum(PARTS) :]], dim=1), plain(without), 1e-4)
            few = sequence[:1]
            expected, sure = _by_hand(plain, few[0].double().cpu(), assigner)
            check("attention", isolated(few, GRID)[0][0, 1 : 1 + sum(PARTS)][sure], expected[sure], 1e-3)

    def step(layer: torch.nn.Module, inputs: Tensor, arguments: Sequence[object]) -> Callable[[], object]:
        def run() -> None:
            output = layer(inputs.requires_grad_(), *arguments)
            (output[0] if isinstance(output, tuple) else output).sum().backward()

        return run

    rate = product_rate(device)
    passes = (("forward", _forward), ("forward and backward", step))
    for (form, assigner), (label, make) in itertools.product(forms.items(), passes):
        ours = AutoAlignedAttention(copy.deepcopy(plain), PARTS, assigner)
        one, other = make(ours, sequence, (GRID,)), make(plain, without, ())
        what = f"{form}: {label}, {dim} channels, {heads} heads, batch {batch}"
        floor = flops_of(other) / rate
        against, floor_is = "timm's attention without part tokens", "its FLOPs at the rate of a large product"
        yield Measurement("attention", what, against, *compare(one, other, repeats), floor, floor_is)


def _forward(layer: torch.nn.Module, inputs: Tensor, arguments: Sequence[object]) -> Callable[[], object]:
    return torch.no_grad()(lambda: layer(inputs, *arguments))


def _by_hand(layer: Attention, sequence: Tensor, assigner: Sinkhorn) -> tuple[Tensor, Tensor]:
    """Eq. 2-5 for the part tokens of one image, or soft transport, head by head and part by part, in float64.

    Also says of which parts the subsets are beyond doubt: where two parts of a plan are as good as equal at some patch,
    float32 may decide otherwise.
    """
    layer = copy.deepcopy(layer).double().cpu()
    heads, width, parts = layer.num_heads, layer.head_dim, sum(PARTS)
    q, k, v = layer.qkv(sequence).view(len(sequence), 3, heads, width).permute(1, 2, 0, 3)
    output, sure = torch.zeros(heads, parts, width, dtype=torch.float64), torch.ones(parts, dtype=torch.bool)
    for head in range(heads):
        keys, values = k[head, 1 + parts :], v[head, 1 + parts :]
        first = 0
        for granularity in PARTS:
            queries = q[head, 1 + first : 1 + first + granularity]
            scores = torch.nn.functional.cosine_similarity(queries[:, None], keys[None], dim=-1)
            cost = assigner.cost([granularity], GRID, scores.device)
            plan = ((scores if cost is None else scores - cost) / 0.05).exp()
            for _ in range(3):
                plan = plan / plan.sum(dim=1, keepdim=True) / granularity
                plan = plan / plan.sum(dim=0, keepdim=True) / len(keys)
            if assigner.rounding != "soft":
                best = plan.topk(2, dim=0).values
                sure[first : first + granularity] &= bool(((best[0] - best[1]) / best[0] > 1e-5).all())
                owner = plan.argmax(dim=0)
                plan = (owner == torch.arange(granularity)[:, None]).double()
            mass = plan * (queries @ keys.t() * width**-0.5).exp()
            output[head, first : first + granularity] = mass / mass.sum(dim=1, keepdim=True) @ values
            first += granularity
    return layer.proj(output.transpose(0, 1).reshape(parts, heads * width)), sure
