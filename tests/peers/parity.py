"""Compares muonp with transformers on Hugging Face folders. Called by parity.sh.

    python parity.py MUONP FOLDER...

Of each folder, in float32: the logits of a text (largest difference over the largest value, at most 1e-4), its loss (1e-5,
relative), 64 tokens of greedy text with a cache (the same), and the ids of a text with much in it (the same).
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy
import tokenizers
import torch
import transformers

TEXT = ("In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon "
        "the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be light: and "
        "there was light. And God saw the light, that it was good: and God divided the light from the darkness.")
HARD = ("It's 12,345.67 o'clock\t\tAND\n\n  indented();\r\nfoo_bar(x) => {x**2}  \n naïve café, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧‍👦🏽 "
        "漢字かな交じり文 한국어 العربية ไทย हिन्दी Ελληνικά <|im_start|>user<|im_end|> \u00a0\u2003\u200b end")
PROMPT = "The capital of France is"
SIZES = dict(vocab_size=0, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=512, initializer_range=0.1, pad_token_id=None)
MADE = {
    "gpt2": lambda v: transformers.GPT2Config(vocab_size=v, n_embd=64, n_layer=2, n_head=4, n_positions=512, initializer_range=0.1),
    "llama": lambda v: transformers.LlamaConfig(**{**SIZES, "vocab_size": v}, tie_word_embeddings=False),
    "mistral": lambda v: transformers.MistralConfig(**{**SIZES, "vocab_size": v}, sliding_window=16, tie_word_embeddings=False),
    "qwen2": lambda v: transformers.Qwen2Config(**{**SIZES, "vocab_size": v}, tie_word_embeddings=True),
    "qwen3": lambda v: transformers.Qwen3Config(**{**SIZES, "vocab_size": v}, head_dim=32, tie_word_embeddings=True),
}


class Muonp:
    def __init__(self, program, scratch):
        self.program, self.scratch = program, pathlib.Path(scratch)

    def run(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, arguments))}: status {done.returncode}\n{done.stderr}")
        return done.stdout

    def text(self, content):
        path = self.scratch / "text.txt"
        path.write_text(content, encoding="utf-8")
        return path

    def evaluate(self, folder):
        logits = self.scratch / "logits.npy"
        said = self.run("eval", folder, "--text", self.text(TEXT), "--logits", logits, "--json")
        return json.loads(said), numpy.load(logits)

    def ids(self, folder, content):
        out = self.scratch / "ids.npy"
        self.run("tokenize", "--tokenizer", folder, "--in", self.text(content), "--ids", out)
        return numpy.load(out).tolist()

    def greedy(self, folder):
        return [int(i) for i in self.run("generate", folder, "--prompt", PROMPT, "--tokens", 64, "--temperature", 0, "--ids").split()]


def make_random(name, base, folder):
    """A small random model with the base folder's tokenizer."""
    vocabulary = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(1)
    config = MADE[name](vocabulary)
    config.bos_token_id = config.eos_token_id = None
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    model.generation_config.eos_token_id = model.generation_config.bos_token_id = None
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / file, folder)
    return folder


def ends_of(model, tokenizer):
    """What ends a text for muonp: what generation_config.json or config.json says, else the tokenizer's end."""
    said = model.generation_config.eos_token_id
    return said if said is not None else tokenizer.eos_token_id


def compare(muonp, name, folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    results = {}
    ids = torch.tensor([plain.encode(TEXT).ids])
    with torch.no_grad():
        expected = model(ids, labels=ids)
        prompt = torch.tensor([plain.encode(PROMPT).ids])
        text = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False,
                              eos_token_id=ends_of(model, tokenizer), pad_token_id=0)[0, prompt.shape[1]:].tolist()
    numbers, logits = muonp.evaluate(folder)
    reference = expected.logits[0].numpy()
    if logits.shape != reference.shape:
        results["logits"] = (False, f"shape {logits.shape}, expected {reference.shape}")
    else:
        off = float(numpy.abs(logits - reference).max() / numpy.abs(reference).max())
        results["logits"] = (off <= 1e-4, f"off by {off:.1e}")
    off = abs(numbers["loss"] / float(expected.loss) - 1)
    results["loss"] = (off <= 1e-5 and numbers["tokens"] == ids.shape[1] - 1, f"{numbers['loss']:.6f}, off by {off:.1e}")
    greedy = muonp.greedy(folder)
    same = next((i for i, (a, b) in enumerate(zip(greedy, text)) if a != b), min(len(greedy), len(text)))
    results["greedy"] = (greedy == text, f"{same} of {len(text)} tokens the same")
    results["ids"] = (muonp.ids(folder, HARD) == plain.encode(HARD, add_special_tokens=False).ids, "")
    for what, (good, detail) in results.items():
        print(f"{name:<24} {what:<8} {'ok' if good else 'OFF'} {detail}", flush=True)
    return all(good for good, _ in results.values())


def main():
    folders = [pathlib.Path(f) for f in sys.argv[2:]]
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        muonp = Muonp(sys.argv[1], scratch)
        for name in MADE:
            good &= compare(muonp, f"random {name}", make_random(name, folders[0], pathlib.Path(scratch) / name))
        for folder in folders:
            good &= compare(muonp, folder.name, folder)
    sys.exit(0 if good else 1)


main()
