"""Models of sequences: transformers, convolutions over time, recurrence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.architectures.base import Architecture, numbers, tokens

__all__ = ["SEQUENCES"]

VOCABULARY = 11
LENGTH = 6


# --- nanoGPT -----------------------------------------------------------------------------------------------


@dataclass
class GPTConfig:
    block_size: int = 8
    vocab_size: int = VOCABULARY
    n_layer: int = 3
    n_head: int = 2
    n_embd: int = 8
    dropout: float = 0.0
    bias: bool = True
    flash: bool = True


class LayerNorm(nn.Module):
    """LayerNorm with an optional bias."""

    def __init__(self, ndim: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(ndim))
        self.bias = nn.Parameter(torch.zeros(ndim)) if bias else None

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        assert config.n_embd % config.n_head == 0
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head = config.n_head
        self.n_embd = config.n_embd
        self.dropout = config.dropout
        self.flash = config.flash
        if not self.flash:
            size = config.block_size
            self.register_buffer("bias", torch.tril(torch.ones(size, size)).view(1, 1, size, size))

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if self.flash:
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=None, dropout_p=self.dropout if self.training else 0, is_causal=True
            )
        else:
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            att = F.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """nanoGPT: a ModuleDict, a tied head, the loss inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            dict(  # noqa: C408  (as it is written there)
                wte=nn.Embedding(config.vocab_size, config.n_embd),
                wpe=nn.Embedding(config.block_size, config.n_embd),
                drop=nn.Dropout(config.dropout),
                h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
                ln_f=LayerNorm(config.n_embd, bias=config.bias),
            )
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for pn, p in self.named_parameters():
            if pn.endswith("c_proj.weight"):
                torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.2)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.2)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        device = idx.device
        _, t = idx.size()
        assert t <= self.config.block_size, (
            f"Cannot forward sequence of length {t}, block size is only {self.config.block_size}"
        )
        pos = torch.arange(0, t, dtype=torch.long, device=device)
        tok_emb = self.transformer.wte(idx)
        pos_emb = self.transformer.wpe(pos)
        x = self.transformer.drop(tok_emb + pos_emb)
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        logits = self.lm_head(x)
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss


def nanogpt(dropout: float = 0.0) -> GPT:
    """nanoGPT with torch's fused attention."""
    return GPT(GPTConfig(dropout=dropout))


def masked_gpt(dropout: float = 0.0) -> GPT:
    """nanoGPT with attention by hand: its causal mask is a buffer."""
    return GPT(GPTConfig(dropout=dropout, flash=False, bias=False))


# --- rotary ------------------------------------------------------------------------------------------------


def rotate_half(x: Tensor) -> Tensor:
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((-x2, x1), dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.scale


class RotaryBlock(nn.Module):
    def __init__(self, dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(dim), RMSNorm(dim)
        self.wq = nn.Linear(dim, dim, bias=False)
        self.wkv = nn.Linear(dim, 2 * kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)
        self.w1, self.w3 = (nn.Linear(dim, 12, bias=False) for _ in range(2))
        self.w2 = nn.Linear(12, dim, bias=False)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        bsz, seqlen, _ = x.shape
        q = self.wq(x).view(bsz, seqlen, self.heads, self.head_dim).transpose(1, 2)
        k, v = self.wkv(x).view(bsz, seqlen, 2, self.kv_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        q = q * cos + rotate_half(q) * sin
        k = k * cos + rotate_half(k) * sin
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(out.transpose(1, 2).reshape(bsz, seqlen, -1))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = x + self.attend(self.input_layernorm(x), cos, sin)
        y = self.post_attention_layernorm(h)
        return h + self.w2(F.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    """Rotary tables as buffers that are not saved, handed to every block; grouped keys and values."""

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int = 8, heads: int = 4, max_len: int = 16) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(VOCABULARY, dim)
        self.layers = nn.ModuleList([RotaryBlock(dim, heads, heads // 2) for _ in range(3)])
        self.norm = RMSNorm(dim)
        self.output = nn.Linear(dim, VOCABULARY, bias=False)
        head_dim = dim // heads
        inv_freq = 1.0 / (100.0 ** (torch.arange(0, head_dim, 2).float() / head_dim))
        emb = torch.outer(torch.arange(max_len).float(), inv_freq).repeat(1, 2)
        self.register_buffer("cos", emb.cos(), persistent=False)
        self.register_buffer("sin", emb.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.tok_embeddings(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.layers:
            h = layer(h, cos, sin)
        return self.output(self.norm(h)).float() if h.dtype == torch.half else self.output(self.norm(h))


# --- encoder and decoder -----------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, d_model: int, h: int, dropout: float) -> None:
        super().__init__()
        self.h, self.d_k = h, d_model // h
        self.linears = nn.ModuleList(nn.Linear(d_model, d_model) for _ in range(4))
        self.dropout = nn.Dropout(p=dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        nbatches = query.size(0)
        query, key, value = [
            lin(x).view(nbatches, -1, self.h, self.d_k).transpose(1, 2)
            for lin, x in zip(self.linears, (query, key, value), strict=False)
        ]
        scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(self.d_k)
        if mask is not None:
            scores = scores.masked_fill(mask.unsqueeze(1) == 0, -1e9)
        p_attn = self.dropout(scores.softmax(dim=-1))
        x = torch.matmul(p_attn, value).transpose(1, 2).contiguous().view(nbatches, -1, self.h * self.d_k)
        return self.linears[-1](x)


class EncoderLayer(nn.Module):
    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(d_model, 2, dropout)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, 12), nn.ReLU(), nn.Linear(12, d_model))
        self.norms = nn.ModuleList([nn.LayerNorm(d_model), nn.LayerNorm(d_model)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norms[0](x)
        x = x + self.self_attn(y, y, y, mask)
        return x + self.feed_forward(self.norms[1](x))


class DecoderLayer(nn.Module):
    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.self_attn, self.src_attn = (Attention(d_model, 2, dropout) for _ in range(2))
        self.feed_forward = nn.Sequential(nn.Linear(d_model, 12), nn.ReLU(), nn.Linear(12, d_model))
        self.norms = nn.ModuleList([nn.LayerNorm(d_model) for _ in range(3)])

    def forward(self, x: Tensor, memory: Tensor, src_mask: Tensor, tgt_mask: Tensor) -> Tensor:
        y = self.norms[0](x)
        x = x + self.self_attn(y, y, y, tgt_mask)
        x = x + self.src_attn(self.norms[1](x), memory, memory, src_mask)
        return x + self.feed_forward(self.norms[2](x))


def subsequent_mask(size: int) -> Tensor:
    """Mask out subsequent positions."""
    return torch.triu(torch.ones(1, size, size), diagonal=1).type(torch.uint8) == 0


class EncoderDecoder(nn.Module):
    """The annotated transformer: two inputs, a mask of padding made of the first, one of order made of the second."""

    def __init__(self, d_model: int = 8, n: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.d_model = d_model
        self.src_embed, self.tgt_embed = nn.Embedding(7, d_model), nn.Embedding(VOCABULARY, d_model)
        self.encoder = nn.ModuleList(EncoderLayer(d_model, dropout) for _ in range(n))
        self.decoder = nn.ModuleList(DecoderLayer(d_model, dropout) for _ in range(n))
        self.generator = nn.Linear(d_model, VOCABULARY)

    def encode(self, src: Tensor, src_mask: Tensor) -> Tensor:
        x = self.src_embed(src) * math.sqrt(self.d_model)
        for layer in self.encoder:
            x = layer(x, src_mask)
        return x

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        src_mask = (src != 0).unsqueeze(-2)
        tgt_mask = (tgt != 0).unsqueeze(-2) & subsequent_mask(tgt.size(-1)).to(tgt.device)
        memory = self.encode(src, src_mask)
        x = self.tgt_embed(tgt) * math.sqrt(self.d_model)
        for layer in self.decoder:
            x = layer(x, memory, src_mask, tgt_mask)
        return self.generator(x)


# --- time --------------------------------------------------------------------------------------------------


class WaveNet(nn.Module):
    """Gated causal convolutions; what is predicted is the sum of all skips."""

    def __init__(self, channels: int = 4, dilations: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.start = nn.Conv1d(2, channels, 1)
        self.dilations = dilations
        self.filters = nn.ModuleList(nn.Conv1d(channels, channels, 2, dilation=d) for d in dilations)
        self.gates = nn.ModuleList(nn.Conv1d(channels, channels, 2, dilation=d) for d in dilations)
        self.residual = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in dilations)
        self.skip = nn.ModuleList(nn.Conv1d(channels, 5, 1) for _ in dilations)
        self.end = nn.Conv1d(5, VOCABULARY, 1)

    def forward(self, signal: Tensor) -> Tensor:
        x = self.start(signal.transpose(1, 2))
        skips = 0
        for i, d in enumerate(self.dilations):
            padded = F.pad(x, (d, 0))
            z = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            skips = skips + self.skip[i](z)
            x = x + self.residual[i](z)
        return self.end(F.relu(skips)).transpose(1, 2)


class Tagger(nn.Module):
    """An LSTM between an embedding and a classifier of its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 5)
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(12)
        self.fc = nn.Linear(12, 4)

    def forward(self, text: Tensor) -> Tensor:
        out, (h_n, _) = self.lstm(self.embed(text))
        final = torch.cat([h_n[-2], h_n[-1]], dim=1)
        return self.fc(self.norm(out.mean(1) + final))


TEXT = tokens(VOCABULARY, LENGTH)

SEQUENCES = (
    Architecture(
        name="nanogpt",
        make=nanogpt,
        inputs={"idx": TEXT},
        cuts=(
            ("transformer.h.1",),
            ("transformer.h.0", "transformer.h.1", "transformer.h.2", "transformer.ln_f"),
            ("transformer.h.0.mlp", "transformer.h.2.attn.c_proj"),
        ),
        output=0,
        classes=VOCABULARY,
        ties=True,
        dropout=True,
    ),
    Architecture(
        name="masked_gpt",
        make=masked_gpt,
        inputs={"idx": TEXT},
        cuts=(("transformer.h.1",), ("transformer.h.1.attn.attn_dropout", "transformer.h.2.ln_2")),
        output=0,
        classes=VOCABULARY,
        ties=True,
        dropout=True,
    ),
    Architecture(
        name="llama",
        make=Llama,
        inputs={"tokens": TEXT},
        cuts=(("layers.1",), ("layers.1", "layers.2", "norm"), ("layers.0.wo", "layers.2.w2")),
        classes=VOCABULARY,
    ),
    Architecture(
        name="encoder_decoder",
        make=EncoderDecoder,
        inputs={"src": tokens(7, 5), "tgt": TEXT},
        cuts=(
            ("decoder.0",),
            ("encoder.1", "decoder.0", "decoder.1"),
            ("encoder.1.norms.1", "decoder.0.src_attn"),
        ),
        classes=VOCABULARY,
        dropout=True,
    ),
    Architecture(
        name="wavenet",
        make=WaveNet,
        inputs={"signal": numbers(LENGTH, 2)},
        cuts=(("filters.1",), ("filters.1", "filters.2", "end"), ("residual.0", "gates.2")),
        classes=VOCABULARY,
    ),
    Architecture(
        name="lstm",
        make=Tagger,
        inputs={"text": TEXT},
        cuts=(("lstm",), ("norm",), ("lstm", "fc")),
        classes=4,
    ),
)
