"""Adapters in PEFT's files: those of our runs opened by PEFT, merged ones by transformers, and PEFT's own taken in."""
import shutil

import peft
import torch

from theirs import TEXT, logits_of, open_model, open_tokenizer

# What our run has, and what PEFT makes.
CASES = {
    "llama": ({"rank": 4, "alpha": 8, "rank_stabilized": True, "modules": ["q_proj", "layers.0.mlp.*"]},
              {"r": 8, "lora_alpha": 16, "target_modules": r".*\.0\.(self_attn\.[qv]|mlp\.down)_proj"}),
    "gpt2": ({"rank": 4, "alpha": 8},
             {"r": 8, "lora_alpha": 16, "use_rslora": True, "target_modules": "all-linear", "fan_in_fan_out": True}),
}


def train(muonp, name, base, lora, steps):
    return muonp.train(name, {
        "run": {"steps": steps}, "model": {"from": str(base), "lora": lora}, "schedule": {"kind": "constant"},
        "data": muonp.text_data(20 * TEXT), "optimizer": {"matrices": {"lr": 1e-2}, "others": {"lr": 1e-2}}}, 2, 3)


def made_by_peft(base, settings, folder):
    """Adapters with a random B, for PEFT begins with B zero; the model that has them."""
    torch.manual_seed(2)
    model = peft.get_peft_model(open_model(base), peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    return model


def compare_one(report, muonp, base, ours, theirs):
    ids = open_tokenizer(base).encode(TEXT).ids
    bare = logits_of(open_model(base), ids)
    moved = lambda logits: f", moved by {abs(logits - bare).max() / abs(bare).max():.1e}"
    run = train(muonp, f"{base.name}-adapters", base, ours, 10)
    logits = muonp.logits(run, TEXT, 2)
    exported = peft.PeftModel.from_pretrained(open_model(base), muonp.export(run)).eval()
    report.arrays("a run's adapters in PEFT", logits_of(exported, ids), logits, 1e-4, moved(logits))
    merged = open_model(muonp.export(run, "--merge"))
    report.arrays("a run's adapters, merged", logits_of(merged, ids), logits, 1e-4, moved(logits))
    folder = muonp.scratch / "peft"
    logits = logits_of(made_by_peft(base, theirs, folder), ids)
    run = train(muonp, f"{base.name}-taken-in", base, {"from": str(folder)}, 0)
    report.arrays("PEFT's adapters in a run", muonp.logits(run, TEXT, 2), logits, 1e-4, moved(logits))
    shutil.rmtree(folder)


def compare(report, muonp, bases):
    """bases: folders by family."""
    for family, (ours, theirs) in CASES.items():
        report.model = f"random {family}, LoRA"
        compare_one(report, muonp, bases[family], ours, theirs)
