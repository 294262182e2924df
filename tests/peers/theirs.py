"""What transformers makes of a Hugging Face folder, in float32, and small random folders to compare on."""
import shutil

import tokenizers
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TEXT = ("In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon "
        "the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be light: and "
        "there was light. And God saw the light, that it was good: and God divided the light from the darkness.")
SIZES = dict(vocab_size=0, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=512, initializer_range=0.1, pad_token_id=None)
MADE = {
    "gpt2": lambda v: transformers.GPT2Config(vocab_size=v, n_embd=64, n_layer=2, n_head=4, n_positions=512, initializer_range=0.1),
    "llama": lambda v: transformers.LlamaConfig(**{**SIZES, "vocab_size": v}, tie_word_embeddings=False),
    "mistral": lambda v: transformers.MistralConfig(**{**SIZES, "vocab_size": v}, sliding_window=16, tie_word_embeddings=False),
    "qwen2": lambda v: transformers.Qwen2Config(**{**SIZES, "vocab_size": v}, tie_word_embeddings=True),
    "qwen3": lambda v: transformers.Qwen3Config(**{**SIZES, "vocab_size": v}, head_dim=32, tie_word_embeddings=True),
}


def make_random(name, base, folder, dtype=torch.float32):
    """A small random model with the base folder's tokenizer. Biases and norms are random too: as zeros and ones, which they
    are at first, they would hide a mistake."""
    vocabulary = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(1)
    config = MADE[name](vocabulary)
    config.bos_token_id = config.eos_token_id = None
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    model.generation_config.eos_token_id = model.generation_config.bos_token_id = None
    model.to(dtype).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / file, folder)
    return folder


def open_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def open_tokenizer(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0].numpy()


@torch.no_grad()
def loss_of(model, ids, window, stride):
    """Each token but the first counts once, in the first window that has it. Of the logits on in double precision, here and
    below: PyTorch's sum over a large vocabulary in float32 loses 7e-6 of SmolLM2's loss."""
    total, counted = 0.0, 1
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        logits = model(torch.tensor([ids[begin:end]])).logits[0, counted - 1 - begin:-1]
        total += float(torch.nn.functional.cross_entropy(logits.double(), torch.tensor(ids[counted:end]), reduction="sum"))
        counted = end
        if end == len(ids):
            return total / (len(ids) - 1)


def ends_of(model, folder):
    """What ends a text for muonp: what generation_config.json or config.json says, else the tokenizer's end."""
    said = model.generation_config.eos_token_id
    return said if said is not None else transformers.PreTrainedTokenizerFast.from_pretrained(folder).eos_token_id


def greedy_of(model, prompt, tokens, end, cache):
    ids = torch.tensor([prompt])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, use_cache=cache,
                          eos_token_id=end, pad_token_id=0)
    return made[0, len(prompt):].tolist()


def gradients_of(model, ids, sequences):
    """The mean loss of what follows each id, in so many sequences of one length, and its gradient by parameter."""
    inputs, targets = torch.tensor(ids[:-1]).view(sequences, -1), torch.tensor(ids[1:]).view(-1)
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1).double(), targets)
    loss.backward()
    gradients = {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return float(loss.detach()), gradients
