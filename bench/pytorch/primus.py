"""Primus, the transformer of nnU-Net (Wald et al., arXiv:2503.01835), of PyTorch's modules alone.

``dynamic_network_architectures`` has it from version 0.4 on, and then needs timm and torchvision.
Operations and names of parameters are those of that one, with EVA's blocks as nnU-Net's trainers
choose them: layer scale, and norms within attention and feed-forward network.

Letters: B batch, N tokens (one per patch), E features of a token, H heads, D features of a head.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

_TEMPERATURE = 10_000  # of rotary embeddings
_SCALE = 0.1  # where layer scale starts


class Primus(nn.Module):
    """Patches to tokens, EVA's blocks, tokens to patches of logits.

    Args:
        channels: of the image.
        outputs: number of logits.
        size: of the image, three sizes that are multiples of the patch.
        patch: edge of a patch, a power of 2.
        width: E, a multiple of six per head.
        depth: number of blocks.
        heads: H.
        registers: number of tokens that stand for no patch.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        size: tuple[int, int, int],
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        registers: int = 0,
    ) -> None:
        super().__init__()
        grid = tuple(n // patch for n in size)
        self.down_projection = nn.ModuleDict({"proj": nn.Conv3d(channels, width, patch, patch)})
        self.register_tokens = nn.Parameter(torch.randn(1, registers, width))
        self.eva = Eva(grid, width, depth, heads, registers)
        self.up_projection = nn.ModuleDict({"decode": _decoder(width, outputs, patch)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, X, Y, Z)."""
        patches = self.down_projection["proj"](x)
        registers = self.register_tokens.expand(len(x), -1, -1)
        tokens = torch.cat([registers, patches.flatten(2).transpose(1, 2)], 1)
        tokens = self.eva(tokens)[:, registers.shape[1] :]
        logits: torch.Tensor = self.up_projection["decode"](
            tokens.transpose(1, 2).unflatten(2, patches.shape[2:])
        )
        return logits


class Eva(nn.Module):
    """Blocks of attention and feed-forward networks on tokens that know where they are."""

    def __init__(
        self, grid: tuple[int, ...], width: int, depth: int, heads: int, registers: int
    ) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, registers + math.prod(grid), width))
        self.rope = Rotation(grid, width // heads)
        self.blocks = nn.ModuleList(Block(width, heads, registers) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, E), registers first."""
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x, self.rope)
        normalised: torch.Tensor = self.norm(x)
        return normalised


class Rotation(nn.Module):
    """Rotary embedding: pairs of features are turned by angles that grow along the three axes."""

    pos_embed: torch.Tensor

    def __init__(self, grid: tuple[int, ...], width: int) -> None:
        super().__init__()
        bands = _TEMPERATURE ** -(torch.arange(width // 6) / (width // 6))
        places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1)
        angles = (places[..., None] * bands).reshape(math.prod(grid), -1).repeat_interleave(2, -1)
        embedding = torch.cat([angles.sin(), angles.cos()], -1)
        self.register_buffer("pos_embed", embedding, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, H, N, D) without registers."""
        sine, cosine = self.pos_embed.chunk(2, -1)
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * cosine + turned * sine


class Block(nn.Module):
    """Attention and a feed-forward network, each normalised, scaled and added."""

    def __init__(self, width: int, heads: int, registers: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads, registers), SwiGLU(width, width * 8 // 3)
        self.gamma_1 = nn.Parameter(torch.full((width,), _SCALE))
        self.gamma_2 = nn.Parameter(torch.full((width,), _SCALE))

    def forward(self, x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Tokens (B, N, E)."""
        x = x + self.gamma_1 * self.attn(self.norm1(x), rotation)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Attention whose queries and keys are turned, those of registers excepted."""

    def __init__(self, width: int, heads: int, registers: int) -> None:
        super().__init__()
        self.heads, self.registers = heads, registers
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Tokens (B, N, E)."""
        q, k, v = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        first = self.registers
        q, k = (torch.cat([y[:, :, :first], rotation(y[:, :, first:])], 2) for y in (q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        projected: torch.Tensor = self.proj(self.norm(mixed.transpose(1, 2).flatten(2)))
        return projected


class SwiGLU(nn.Module):
    """A feed-forward network with a gate (Shazeer, arXiv:2002.05202), and a norm behind it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm, self.fc2 = nn.LayerNorm(hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, E)."""
        gated = functional.silu(self.fc1_g(x)) * self.fc1_x(x)
        result: torch.Tensor = self.fc2(self.norm(gated))
        return result


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, X, Y, Z)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        centred = x - x.mean(1, keepdim=True)
        normalised = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None, None] * normalised + self.bias[:, None, None, None]


def _decoder(width: int, outputs: int, patch: int) -> nn.Sequential:
    """Transposed convolutions of stride 2 from tokens to logits, channels falling evenly."""
    stages = int(math.log2(patch))
    factor = (width / (2 * outputs)) ** (1 / stages)
    widths = [max(8, round((width / factor**stage + 1e-6) / 8) * 8) for stage in range(1, stages)]
    steps = [
        nn.Sequential(nn.ConvTranspose3d(a, b, 2, 2), ChannelNorm(b), nn.GELU())
        for a, b in zip([width, *widths], widths, strict=False)
    ]
    return nn.Sequential(*steps, nn.ConvTranspose3d([width, *widths][-1], outputs, 2, 2))
