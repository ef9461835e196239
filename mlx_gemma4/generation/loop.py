"""Generation: prefill, decode one step ahead, stop, split, stream.

Nothing is computed that nobody reads: of a prompt only the last position reaches the
KV-shared layers and the head, and earlier chunks only fill the caches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx

from ..cache import check_kv_bits
from ..chat.splitter import opens_thought
from ..chat.tools import CALL_MARKS
from ..decoding.drafts import Draft, drafts_for
from ..decoding.needs import RESERVE, Need
from ..decoding.prefill import Progress, step_for
from ..decoding.prefix import PrefixCache
from ..decoding.prefixes import PrefixCaches, pins_for
from ..decoding.stream import Stream
from ..errors import ChatError
from ..forms.calls import calls_of
from ..forms.form import asking, form_of
from ..forms.schema import Schema
from ..model import Gemma4
from ..prompt.begun import begun_tokens
from ..prompt.processor import Processor
from ..sampling import Sampler
from .answer import Chunk, Response, Stats, Writer
from .asked import check_rows, checked_ids, prompt_of, token_limit
from .limits import LoopWatch, ThoughtLimit
from .room import context_for, demand_of, of_spans, room_of, with_media, within_memory
from .run import run

__all__ = ["Chunk", "Response", "Stats", "generate", "stream_generate"]


def generate(
    model: Gemma4,
    processor: Processor,
    messages: str | Sequence[Mapping[str, Any]] | None = None,
    *,
    tokens: Sequence[int] | mx.array | None = None,
    begun: Sequence[int] | Mapping[str, Any] = (),
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    think_budget: int | None = None,
    image_tokens: int | None = None,
    control_tokens: bool = False,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_loops: bool = True,
    plain: bool = False,
    schema: str | Schema | None = None,
    regex: str | None = None,
    grammar: str | None = None,
    strict_tools: bool = False,
    tool_choice: str | None = None,
    parallel_calls: bool = True,
    prefix: PrefixCache | PrefixCaches | None = None,
    prefill_step: int | None = None,
    progress: Progress | None = None,
    draft: Draft | None = None,
    kv_bits: int | None = None,
    max_context: int | None = None,
) -> Response:
    """The whole answer at once; the options are those of `stream_generate`."""
    given = locals()  # first, so that it holds what was passed and nothing else
    return Response.of(stream_generate(**given))


def stream_generate(
    model: Gemma4,
    processor: Processor,
    messages: str | Sequence[Mapping[str, Any]] | None = None,
    *,
    tokens: Sequence[int] | mx.array | None = None,
    begun: Sequence[int] | Mapping[str, Any] = (),
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    think_budget: int | None = None,
    image_tokens: int | None = None,
    control_tokens: bool = False,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_loops: bool = True,
    plain: bool = False,
    schema: str | Schema | None = None,
    regex: str | None = None,
    grammar: str | None = None,
    strict_tools: bool = False,
    tool_choice: str | None = None,
    parallel_calls: bool = True,
    prefix: PrefixCache | PrefixCaches | None = None,
    prefill_step: int | None = None,
    progress: Progress | None = None,
    draft: Draft | None = None,
    kv_bits: int | None = None,
    max_context: int | None = None,
) -> Stream[Chunk]:
    """Answer `messages`, or go on from raw `tokens`: one chunk per generated token.

    A `Batch` takes the stream to compute it together with others.

    messages: a conversation, or the text of a user's first message.
    begun: ids of an answer that was cut, or an assistant's message: the answer begins
        with it and goes on as if it had not been cut. Its chunks come first.
    think_budget: the most tokens of a thought; then it is closed. None sets no limit.
    image_tokens: the most soft tokens per picture; None takes the checkpoint's own.
    control_tokens: special tokens that stand in messages and tools are taken for ones;
        otherwise they are words like any others.
    max_tokens: None goes on to the end of the model's context.
    temperature, top_p, top_k: None takes the checkpoint's own setting.
    presence_penalty, frequency_penalty, logit_bias: as in OpenAI's API; the last by id.
    stop: strings that end the answer and are not part of it.
    stop_loops: an answer that says the same words again and again is ended
        (finish_reason "loop"), a thought that does is closed (`Stats.loops`).
    plain: what is generated is the answer's text as it stands: no part of it is taken
        for a thought or a call, and marks are told with it.
    schema, regex, grammar: the form that the answer has, by construction: a JSON schema
        (as such, as JSON text, or as `name, age int`), a regular expression, or a Lark
        grammar. A thought before it is free. Where max_tokens (unset, 4,096) is spent,
        the answer goes the shortest way to a valid end (finish_reason "closed"); one
        that is not there after 512 more is cut ("length"). Needs the extra `json`.
    strict_tools: calls are held to the declarations of their tools, as to a form.
        One that is under way where max_tokens are spent is brought to its end, with
        the finish_reason "closed": it may lack what was meant. Needs the extra `json`.
    tool_choice: "auto"; "none", which calls nothing; "required", which answers with a
        call; or a tool's name, which answers with one call of it. The last two are
        strict.
    parallel_calls: whether one call may follow another.
    prefill_step: how many tokens of the prompt are read at once; None takes what suits
        the model.
    prefix: of this conversation, or of several, of which the closest is taken; what it
        holds of the prompt is not read again.
    progress: called before each medium and each part of the prompt that is read, with
        how many of its tokens are known and how many it has, about, while media are
        not read. What it raises ends the call.
    draft: what proposes tokens, several of which are checked at once: "assistant", the
        model's drafter; "lookup", what followed the same words before; "auto", both, as
        far as they are found to save time; "off". None is "auto" where the model has a
        drafter. The answer is the same with each: in float32 to the token, on a GPU up
        to the rounding of its kernels.
    kv_bits: 8 keeps what full layers read behind the first 1,024 tokens in 8 bits,
        which takes half the memory of a long context and changes answers slightly.
        None does as `prefix` does, or keeps all as it was computed.
    max_context: tokens that prompt and answer may have together, which must fit in
        memory; None takes what the model reads, or as much of it as fits.

    Raises ChatError for a conversation or an option that cannot be honoured, and
    RoomError for a prompt that does not fit in memory, before anything is computed; and
    RoomError where memory runs out all the same, when what `prefix` holds is given up.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    form = form_of(schema, regex, grammar)
    if form is not None and stop:
        raise ChatError("stop would cut an answer of a form: leave one of them out.")
    if form is not None and messages is not None:
        messages = asking(messages, form)
    sampling = processor.generation.sampling.but_with(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
    )
    given = prefix
    if prefix is not None:
        prefix.check_model(model)
        prefix.keep_in(kv_bits)
    check_kv_bits(kv_bits, model.config.text_config)
    ids = None if tokens is None else checked_ids(tokens, model.config)
    if prefill_step is None:
        prefill_step = step_for(model)
    if prefill_step < 1:
        raise ChatError(f"prefill_step is {prefill_step}; it must be 1 or more.")
    bits = prefix.kv_bits if prefix is not None else kv_bits
    demand = demand_of(model, prefill_step, bits)
    fits = partial(context_for, model, demand, max_context)
    taken = image_tokens, control_tokens
    prompt, prefix = prompt_of(
        processor, messages, ids, tools, thinking, *taken, prefix, fits, progress
    )
    special_tokens = processor.tokenizer.special_tokens
    inside_thought = not plain and opens_thought(prompt.tokens, special_tokens)
    if isinstance(begun, Mapping):
        begun = begun_tokens(processor.tokenizer, begun, inside_thought)
    rows = model.config.text_config.token_rows
    calls = calls_of(tools, special_tokens, strict_tools, tool_choice, parallel_calls)
    silent = calls is None and (strict_tools or tool_choice == "none")
    guide = None
    if form is not None or (calls and not calls.is_free):
        from ..forms.guide import Guide  # NumPy costs a tenth of a second

        guide = Guide(form, processor, rows, inside_thought, thinking, calls)
        begun = guide.follow(begun)
    prompt = replace(
        prompt, tokens=[*prompt.tokens, *begun], keys=[*prompt.keys, *begun]
    )
    check_rows(prompt.tokens, model.config)
    media = of_spans(prompt.spans)
    if prefix is not None:
        demand = replace(demand, shared=prefix.shared_pins)
    context = context_for(model, demand, max_context, len(prompt.tokens), media)
    limit = token_limit(context, len(prompt.tokens), max_tokens)
    if guide is not None:
        guide.allot(max_tokens, token_limit(context, len(prompt.tokens), None))
    never = [*processor.generation.suppress_tokens]
    if silent:
        never += [special_tokens[m] for m in CALL_MARKS if m in special_tokens]
    sampler = Sampler(sampling, prompt.tokens, rows, never, logit_bias, list(begun))
    if think_budget is not None:
        sampler.limit = ThoughtLimit(
            processor.tokenizer, think_budget, inside_thought, begun
        )
    stops = (stop,) if isinstance(stop, str) else stop or ()
    only_marks = silent or guide is not None
    writer = Writer(processor, inside_thought, stops, only_marks, plain)
    written = [writer.take(token, last=False) for token in begun]
    if any(chunk.finish_reason for chunk in written):
        raise ChatError("The answer that has begun is at its end: nothing follows it.")
    pins = pins_for(messages, begun) if prefix else "none"
    demand = with_media(demand, model, media)
    if prefix is None:
        demand = replace(demand, pins=0)
    prefix = prefix or PrefixCache(model, kv_bits=kv_bits)
    drafts = drafts_for(model, draft, processor.generation.stop_tokens, prompt.tokens)
    steps = run(
        model,
        prompt,
        limit,
        sampler,
        writer,
        written,
        prefix,
        pins,
        prefill_step,
        guide,
        LoopWatch(processor.tokenizer) if stop_loops and form is None else None,
        progress,
        drafts,
    )
    steps = within_memory(steps, (given or prefix).clear)
    counted = len(prompt.tokens) + (limit if max_tokens else min(limit, RESERVE))
    others = given if isinstance(given, PrefixCaches) else None
    need = Need(demand, room_of(model).limit, counted, prefix, others)
    return Stream(model, steps, need)
