"""The LSTMs of nn/src/models/lstm.rs in plain torch, window by window, with torch's own nn.LSTM: what the fixtures are made of.

It follows the description, not the code: padding never exists, since each window is computed alone.
"""
import torch
import torch.nn.functional as F
from torch import nn

IMPOSSIBLE = -1e4


class Dense(nn.Linear):
    """A map that says what it is."""


class Flow(nn.Module):
    """Trilinear scores."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = Dense(width, 1, bias=False), Dense(width, 1, bias=False)
        self.product = nn.Parameter(torch.randn(width) * 0.5)

    def forward(self, a, b):
        return torch.einsum("id,d,jd->ij", a, self.product, b) + self.first(a) + self.second(b).T


class MultiHead(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.query, self.keys, self.out, self.heads = Dense(width, width), Dense(width, 2 * width), Dense(width, width), heads

    def forward(self, keys, queries):
        split = lambda x: x.view(len(x), self.heads, -1).transpose(0, 1)
        key, value = self.keys(keys).chunk(2, -1)
        scores = split(self.query(queries)) @ split(key).transpose(1, 2)
        weights = (scores / (queries.shape[1] / self.heads) ** 0.5).softmax(-1)
        return self.out((weights @ split(value)).transpose(0, 1).reshape(queries.shape))


class Characters(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.register_buffer("table", torch.zeros(c["vocab_size"], c["word_length"], dtype=torch.int32))
        self.weight = nn.Parameter(torch.randn(c["character_vocab_size"], c["character_size"]))
        self.convolution, self.kernel = Dense(c["character_size"] * c["character_kernel"], c["character_filters"]), c["character_kernel"]

    def forward(self, ids):
        # As a convolution, whose kernel is the map's weight: [features, characters, size] -> [features, size, characters].
        kernel = self.convolution.weight.view(self.convolution.out_features, self.kernel, -1).transpose(1, 2)
        seen = F.conv1d(self.weight[self.table[ids].long()].transpose(1, 2), kernel, self.convolution.bias)
        return F.relu(seen).amax(-1)


class Lstm(nn.Module):
    """Of a configuration as config.json has it."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        hidden, states = c["hidden_size"], 2 * c["hidden_size"]
        bi = lambda width: nn.LSTM(width, hidden, bidirectional=True)
        self.words = nn.Embedding(c["vocab_size"], c["word_size"])
        width = c["word_size"] + int(c["exact_match"])
        if c["character_vocab_size"]:
            self.characters = Characters(c)
            width += c["character_filters"]
        self.encoder = bi(width)
        way = c["attention"]
        if way == "multi-head":
            self.attention = MultiHead(states, c["num_attention_heads"])
        elif way == "self-attention":
            self.attention = nn.ModuleDict({"merged": Dense(2 * states, states)})
            self.self_attention = MultiHead(states, c["num_attention_heads"])
        elif way == "bidaf":
            self.attention, self.self_attention = Flow(states), Flow(states)
            self.attention.merged, self.attention.layer = Dense(4 * states, states), bi(states)
            self.self_attention.merged = Dense(3 * states, states)
        fused = 2 * states if way == "dot" else states
        self.layers = nn.ModuleList(bi(fused if number == 0 else states) for number in range(c["num_hidden_layers"]))
        scores = c["positions"] + 1 if c["head"] == "max-pooling" else 1
        self.start, self.end = Dense(states, scores), Dense(states, scores)
        if c["head"] == "span":
            self.start.layer, self.end.layer = bi(states), bi(2 * states)

    def embed(self, ids, others):
        parts = [self.words(ids)]
        if self.c["character_vocab_size"]:
            parts.append(self.characters(ids))
        if self.c["exact_match"]:
            parts.append((ids[:, None] == others[None]).any(1).float()[:, None])
        return torch.cat(parts, 1)

    def fuse(self, q, c):
        way = self.c["attention"]
        seen = (c @ q.T).softmax(-1) @ q
        if way == "dot":
            return torch.cat([c, seen], 1)
        if way == "multi-head":
            return c + self.attention(q, c)
        if way == "self-attention":
            fused = F.relu(self.attention["merged"](torch.cat([c, seen], 1)))
            return fused + self.self_attention(fused, fused)
        scores = self.attention(c, q)
        seen, chosen = scores.softmax(1) @ q, (scores.amax(1).softmax(0)[None] @ c).expand_as(c)
        fused = F.relu(self.attention.merged(torch.cat([c, seen, c * seen, c * chosen], 1)))
        x = self.attention.layer(fused)[0]
        scores = self.self_attention(x, x) + torch.full((len(x), len(x)), -torch.inf).triu().tril()
        seen = scores.softmax(1) @ x if len(x) > 1 else x
        return fused + F.relu(self.self_attention.merged(torch.cat([x, seen, x * seen], 1)))

    def window(self, ids, front):
        """Start and end logits of one window, whose first tokens are the question's."""
        q, c = ids[:front], ids[front:]
        x = self.fuse(self.encoder(self.embed(q, c))[0], self.encoder(self.embed(c, q))[0])
        for layer in self.layers:
            y = layer(x)[0]
            x = y + x if self.c["residual"] and y.shape == x.shape else y
        head, most = self.c["head"], self.c["positions"]
        if head == "max-pooling":
            scores = [map_(x.amax(0)) for map_ in (self.start, self.end)]
            nothing, of_tokens = [s[0] for s in scores], [s[1:] for s in scores]
        else:
            first = self.start.layer(x)[0] if head == "span" else x
            last = self.end.layer(torch.cat([x, first], 1))[0] if head == "span" else x
            of_tokens = [self.start(first)[:, 0], self.end(last)[:, 0]]
            nothing = [s[-1] for s in of_tokens]
            most = len(c) if head == "span" else most
        inside = min(len(c) - 1, most)
        logits = []
        for none, scores in zip(nothing, of_tokens):
            pad = lambda count: torch.full((count,), IMPOSSIBLE)
            logits.append(torch.cat([none[None], pad(front - 1), scores[:inside], pad(len(c) - inside)]))
        return logits
