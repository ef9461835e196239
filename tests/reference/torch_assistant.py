"""The reference's drafters, and the drafts of their first round."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tiny_assistants
import tiny_media
import torch
import torch_model
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4UnifiedAssistantConfig,
    Gemma4UnifiedAssistantForCausalLM,
)

KINDS: dict[str, tuple[Any, Any]] = {
    "gemma4_assistant": (Gemma4AssistantConfig, Gemma4AssistantForCausalLM),
    "gemma4_unified_assistant": (
        Gemma4UnifiedAssistantConfig,
        Gemma4UnifiedAssistantForCausalLM,
    ),
}


def build(config: Mapping[str, Any], seed: int) -> Any:
    """The reference's drafter of a config.json dict, float32, plain attention."""
    settings, kind = KINDS[config["model_type"]]
    model = kind(torch_model.plain(settings(**config)))
    tensors = tiny_assistants.tensors(config, seed)
    state = {name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if set(missing) != {"lm_head.weight"} or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model.eval()


@torch.no_grad()
def first_round(
    model: Any, drafter: Any, config: Mapping[str, Any], prompt: tiny_media.Prompt
) -> dict[str, np.ndarray]:
    """What the drafter makes of a prompt that was just read, as the loop of
    `SinglePositionMultiTokenCandidateGenerator` does.

    first: the token that follows, the likeliest. hidden [hidden]: the model's state
    where it was drawn. logits [steps, vocab], states [steps, hidden], tokens [steps].
    """
    wanted = {"output_hidden_states": True, "return_shared_kv_states": True}
    out = torch_model.read(model, config, prompt, **wanted)
    token, state = out.logits[:, -1:].argmax(-1), out.hidden_states[-1][:, -1:]
    found: dict[str, Any] = {
        "first": token[0, 0].numpy(),
        "hidden": state[0, 0].numpy(),
    }
    position = torch.tensor([[len(prompt.tokens)]])
    rows: dict[str, list[Any]] = {"logits": [], "states": [], "tokens": []}
    for _ in range(tiny_assistants.STEPS):
        embedding = model.get_input_embeddings()(token)
        drafted = drafter(
            inputs_embeds=torch.cat([embedding, state], dim=-1),
            position_ids=position,
            shared_kv_states=out.shared_kv_states,
        )
        token, state = drafted.logits.argmax(-1), drafted.last_hidden_state
        rows["logits"].append(drafted.logits[0, 0].numpy())
        rows["states"].append(state[0, 0].numpy())
        rows["tokens"].append(token[0, 0].numpy())
    return found | {name: np.stack(each) for name, each in rows.items()}
