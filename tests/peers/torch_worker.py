"""A process that measures PyTorch when it is told to, so that it takes turns with others. Started by speed.py.

    python torch_worker.py train MODEL BATCH TIME DTYPE eager|compiled
    python torch_worker.py generate FOLDER BATCH TOKENS

It prints "ready" when all is warm, and for each line "go" of standard input the tokens per second of one measurement.
"""
import os
import sys
import time

import torch
import transformers

PASSES = 3  # of one measurement, of which the median counts


def model_of(name):
    if name == "gpt2-124m":
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    else:
        config = transformers.LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                                          num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
                                          tie_word_embeddings=True, pad_token_id=None)
    config.use_cache = False
    config._attn_implementation = "sdpa"
    return transformers.AutoModelForCausalLM.from_config(config)


def trainer(name, batch, length, dtype, mode):
    model = model_of(name).to(getattr(torch, dtype)).train()
    ids = torch.randint(0, model.config.vocab_size, (batch, length + 1))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def loss_of(tokens, expected):
        logits = model(tokens).logits
        return torch.nn.functional.cross_entropy(logits.float().view(-1, logits.shape[-1]), expected.view(-1))

    loss = torch.compile(loss_of) if mode == "compiled" else loss_of

    def once():
        loss(inputs, targets).backward()
        model.zero_grad(set_to_none=False)
        return batch * length

    return once


def generator(folder, batch, tokens):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    prompt = torch.tensor([tokenizer("In the beginning God created the heaven and the earth.").input_ids] * batch)

    def once():
        with torch.no_grad():
            made = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
                                  do_sample=False, pad_token_id=0)
        return (made.shape[1] - prompt.shape[1]) * batch

    return once


def main():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    kind = sys.argv[1]
    if kind == "train":
        once = trainer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:7])
    else:
        once = generator(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    for _ in range(2):
        once()
    print("ready", flush=True)
    for _ in sys.stdin:
        rates = []
        for _ in range(PASSES if kind == "train" else 1):
            start = time.perf_counter()
            tokens = once()
            rates.append(tokens / (time.perf_counter() - start))
        print(sorted(rates)[len(rates) // 2], flush=True)


main()
