"""The demo's drafter: its configuration, and its steps in the reference implementation.

It has the form of Google's drafters: layers without keys of their own, which read those
of the demo's last own sliding and full layer, between two projections. Two layers, not
four: on a processor a step of it costs by the operation.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4ForConditionalGeneration,
)

from .batches import IGNORE, Tensors
from .network import RESIDUAL_NORM
from .render import DEMO
from .shape import config as demo_config
from .shape import text_config as demo_text

DRAFTER = DEMO / "assistant"
LAYERS = ["sliding_attention", "full_attention"]
HIDDEN, INNER = 96, 192
BRANCH_NORMS = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
Keys = dict[str, tuple[torch.Tensor, torch.Tensor]]


def config() -> dict[str, Any]:
    """The content of the drafter's config.json."""
    demo, text = demo_config(), demo_text()
    none = ("final_logit_softcapping", "moe_intermediate_size", "num_experts")
    text |= dict.fromkeys((*none, "top_k_experts"))
    text |= {
        "enable_moe_block": False,
        "hidden_size": HIDDEN,
        "hidden_size_per_layer_input": 0,
        "intermediate_size": INNER,
        "layer_types": LAYERS,
        "num_hidden_layers": len(LAYERS),
        "num_kv_shared_layers": len(LAYERS),
        "use_double_wide_mlp": False,
        "vocab_size_per_layer_input": 0,
    }
    ids = {name: demo[name] for name in demo if name.endswith("token_id")}
    return ids | {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "backbone_hidden_size": demo_text()["hidden_size"],
        "dtype": "bfloat16",
        "model_type": "gemma4_assistant",
        "text_config": dict(sorted(text.items())),
        "tie_word_embeddings": True,
        "use_ordered_embeddings": False,
    }


def build() -> Gemma4AssistantForCausalLM:
    """The drafter in float32, not yet initialised."""
    stated = config()
    stated["dtype"] = stated["text_config"]["dtype"] = "float32"
    drafter = Gemma4AssistantForCausalLM(Gemma4AssistantConfig.from_dict(stated))
    drafter.model.set_attn_implementation("sdpa")
    return drafter.float()


@torch.no_grad()
def initialise(
    drafter: Gemma4AssistantForCausalLM, demo: Gemma4ForConditionalGeneration
) -> None:
    """Fill every parameter in place, as `network.initialise` does; the head begins with
    the main axes of the demo's own."""
    for name, p in drafter.named_parameters():
        if name.endswith("q_norm.weight"):
            p.fill_(p.shape[0] ** -0.25)
        elif name.endswith(BRANCH_NORMS):
            p.fill_(RESIDUAL_NORM)
        elif p.ndim >= 2:
            p.normal_(0, p.shape[-1] ** -0.5)
    left, sizes, _ = torch.linalg.svd(demo.lm_head.weight, full_matrices=False)
    drafter.lm_head.weight.copy_((left * sizes)[:, :HIDDEN])


def write_config(folder: Path) -> None:
    """Write the drafter's config.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config(), indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def load_drafter(folder: Path) -> Gemma4AssistantForCausalLM:
    """The drafter in `folder`, computed in float32."""
    drafter = build()
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    drafter.load_state_dict(tensors, strict=True)
    return drafter.eval()


@dataclass(frozen=True)
class Reading:
    """What the demo made of a batch of texts [B, T].

    labels: what it would say next, where that is for it to say, or IGNORE; right: where
    the text says so, too.
    """

    tokens: torch.Tensor
    embedded: torch.Tensor
    states: torch.Tensor
    keys: Keys
    labels: torch.Tensor
    right: torch.Tensor


@torch.no_grad()
def read(
    demo: Gemma4ForConditionalGeneration,
    rows: Tensors,
    media: dict[str, torch.Tensor],
) -> Reading:
    """Run the demo over a batch; its keys and values are those of the last layers that
    have their own."""
    inputs, labels, mask = rows
    out = demo.model(
        input_ids=inputs,
        attention_mask=mask,
        use_cache=False,
        return_shared_kv_states=True,
        **media,
    )
    wanted = labels != IGNORE
    said = torch.full_like(labels, IGNORE)
    said[wanted] = demo.lm_head(out.last_hidden_state[wanted]).argmax(-1)
    return Reading(
        inputs,
        demo.get_input_embeddings()(inputs),
        out.last_hidden_state,
        {kind: tuple(pair) for kind, pair in out.shared_kv_states.items()},
        said,
        wanted & (said == labels),
    )


class Rounds:
    """Rounds of drafts that begin at many places of a reading at once.

    places: [B, N], each the index of the last token that is known; -1 where a row has
    fewer of them.
    """

    def __init__(
        self, drafter: Gemma4AssistantForCausalLM, seen: Reading, places: torch.Tensor
    ) -> None:
        self.drafter, self.seen = drafter, seen
        self.used, self.places = places >= 0, places.clamp(min=1)
        last = self.places[:, None, :, None] - 1
        key = torch.arange(seen.tokens.shape[1])
        text = drafter.config.get_text_config()
        full = key <= last
        near = full & (key >= last - text.sliding_window)
        self.masks = {"full_attention": full, "sliding_attention": near}
        self.state = self.at(seen.states, -1)

    def at(self, values: torch.Tensor, ahead: int) -> torch.Tensor:
        """`values` [B, T, ...] so far ahead of each place."""
        where = (self.places + ahead).clamp(max=values.shape[1] - 1)
        return values[torch.arange(len(values))[:, None], where]

    def step(self, embedded: torch.Tensor) -> torch.Tensor:
        """Logits [B, N, V] of what follows a token embedded as [B, N, D]."""
        drafter = self.drafter
        x = drafter.pre_projection(torch.cat([embedded, self.state], dim=-1))
        x = drafter.model(
            inputs_embeds=x,
            attention_mask=self.masks,
            position_ids=self.places,
            shared_kv_states=dict(self.seen.keys),
            use_cache=False,
            logits_to_keep=torch.arange(x.shape[1]),  # no number: it cuts no queries
        ).last_hidden_state
        self.state = drafter.post_projection(x)
        return drafter.lm_head(x)


def places(seen: Reading) -> torch.Tensor:
    """Where a round may begin: behind a token of the demo's own, before another."""
    own = seen.labels != IGNORE
    own = own & torch.cat([torch.zeros_like(own[:, :1]), own[:, :-1]], dim=1)
    rows = [row.nonzero()[:, 0] for row in own]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def loss_of(
    drafter: Gemma4AssistantForCausalLM, seen: Reading, steps: int
) -> tuple[torch.Tensor, list[float]]:
    """The mean loss of the steps of all rounds, and the share right in each step.

    A step counts where all before it could have been right: the text goes on as the
    demo would.
    """
    rounds = Rounds(drafter, seen, places(seen))
    alive, losses, shares = rounds.used, [], []
    for i in range(steps):
        logits = rounds.step(rounds.at(seen.embedded, i))
        labels = rounds.at(seen.labels, i)
        alive = alive & (labels != IGNORE)
        alive = alive & (rounds.places + i < seen.tokens.shape[1])
        if not alive.any():
            break
        found, labels = logits[alive].float(), labels[alive]
        losses.append(nn.functional.cross_entropy(found, labels))
        shares.append((found.argmax(-1) == labels).float().mean().item())
        alive = alive & rounds.at(seen.right, i)
    return torch.stack(losses).mean(), shares
