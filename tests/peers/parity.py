"""Compares muonp with transformers and PEFT on Hugging Face folders. Called by parity.sh; README.md says what it compares.

    python parity.py MUONP FOLDER...
"""
import pathlib
import shutil
import sys
import tempfile

import numpy
import safetensors.torch
import torch

import adapters
from program import Muonp
from report import Report
from theirs import (MADE, TEXT, ends_of, gradients_of, greedy_of, logits_of, loss_of, make_random, open_model, open_tokenizer)

HARD = ("It's 12,345.67 o'clock\t\tAND\n\n  indented();\r\nfoo_bar(x) => {x**2}  \n naïve café, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧‍👦🏽 "
        "漢字かな交じり文 한국어 العربية ไทย हिन्दी Ελληνικά <|im_start|>user<|im_end|> \u00a0\u2003\u200b end")
PROMPTS = ["The capital of France is", "Once upon a time, there was a little girl who"]
TOKENS = 64
SEQUENCES = 2
STAGES = {1: 0, 2: 3}  # the ZeRO stage at each number of ranks
LR = 2.0**24  # so large that a step is far above the weights that it is added to: their rounding is not the gradient's


def compare_logits_and_loss(report, muonp, ours, theirs, ids, ranks):
    """Of a text in one window, and in small ones that ranks share."""
    report.arrays(f"logits, np {ranks}", muonp.logits(ours, TEXT, ranks), logits_of(theirs, ids), 1e-4)
    for window, stride in ((512, 256), (32, 16)):
        loss, tokens = muonp.loss(ours, TEXT, window, stride, ranks)
        report.number(f"loss, windows of {window}, np {ranks}", loss, loss_of(theirs, ids, window, stride), 1e-5)
        if tokens != len(ids) - 1:
            report.check(f"tokens of that loss, np {ranks}", False, f"{tokens}, expected {len(ids) - 1}")


def compare_greedy(report, muonp, ours, texts, ranks):
    """texts: of transformers with a cache, and without one."""
    for how, options in (("cache", []), ("no cache", ["--no-cache"])):
        made = muonp.greedy(ours, PROMPTS, TOKENS, *options, ranks=ranks)
        same = [sum(a == b for a, b in zip(one, other)) for one, other in zip(made, texts[0])]
        lengths = [len(text) for text in texts[0]]
        report.check(f"greedy, {how}, np {ranks}", made == texts[0] == texts[1], f"{same} of {lengths} tokens the same")


def compare_gradients(report, muonp, folder, theirs, ids, ranks):
    """One step w - lr * gradient of sgd; what the exported weights differ by is the gradient."""
    length = (len(ids) - 1) // SEQUENCES
    ids = ids[:length * SEQUENCES + 1]
    group = {"rule": "sgd", "lr": LR, "momentum": 0, "weight_decay": 0}
    run = muonp.train(f"{folder.name}-gradient-{ranks}", {
        "run": {"steps": 1}, "model": {"from": str(folder)},
        "data": {"train": str(muonp.token_file(ids)), "validation_fraction": 0, "shuffle": False, "sequence": length,
                 "batch": SEQUENCES},
        "optimizer": {"clip": 0, "matrices": group, "others": group}, "schedule": {"kind": "constant"}}, ranks, STAGES[ranks])
    loss, gradients = gradients_of(theirs, ids, SEQUENCES)
    where = f"np {ranks}, stage {STAGES[ranks]}"
    report.number(f"loss of a step, {where}", muonp.losses(run)[0], loss, 1e-5)
    before, after = (dict(model.named_parameters()) for model in (theirs, open_model(muonp.export(run, "--dtype", "float32"))))
    off = {name: error_of((before[name] - after[name]).detach().numpy() / LR, gradient) for name, gradient in gradients.items()}
    worst = max(off, key=off.get)
    report.check(f"gradients, {where}", off[worst] <= 1e-3, f"{len(off)} tensors, at most off by {off[worst]:.1e} ({worst})")
    shutil.rmtree(run)


def error_of(ours, theirs):
    return float(numpy.linalg.norm(ours - theirs) / numpy.linalg.norm(theirs))


def untrained(muonp, folder, ranks):
    return muonp.train(f"{folder.name}-untrained", {"run": {"steps": 0}, "model": {"from": str(folder)},
                                                    "data": muonp.text_data(20 * TEXT)}, ranks, STAGES[ranks])


def tensors_of(folder):
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in safetensors.torch.load_file(file).items()}


def same_bytes(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def compare_bytes(report, muonp, folder, run):
    """Of a run of no steps."""
    before, after = tensors_of(folder), tensors_of(muonp.export(run))
    same = sum(name in after and same_bytes(before[name], after[name]) for name in before)
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in before.values()}))
    report.check("0 steps, exported", same == len(before) == len(after),
                 f"{same} of {len(before)} tensors ({kinds}) the same bytes")


def compare(report, muonp, name, folder):
    report.model = name
    theirs, tokenizer = open_model(folder), open_tokenizer(folder)
    end = ends_of(theirs, folder)
    ids = tokenizer.encode(TEXT).ids
    prompts = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    texts = [[greedy_of(theirs, prompt, TOKENS, end, cache) for prompt in prompts] for cache in (True, False)]
    run = untrained(muonp, folder, 2)
    for ranks, ours in ((1, folder), (2, run)):
        compare_logits_and_loss(report, muonp, ours, theirs, ids, ranks)
        compare_greedy(report, muonp, ours, texts, ranks)
        compare_gradients(report, muonp, folder, theirs, ids, ranks)
    compare_bytes(report, muonp, folder, run)
    shutil.rmtree(run)
    report.check("ids", muonp.ids(folder, HARD) == tokenizer.encode(HARD, add_special_tokens=False).ids, "")


def compare_trained(report, muonp, folder):
    """A run that goes on with other ranks than it began with, exported and opened by transformers."""
    report.model = f"{folder.name}, 20 + 5 steps"
    settings = {"model": {"from": str(folder)}, "schedule": {"kind": "constant"}, "optimizer": {"matrices": {"lr": 1e-2}},
                "data": muonp.text_data(20 * TEXT)}
    for ranks, steps in ((4, 20), (2, 25)):
        run = muonp.train("trained", {**settings, "run": {"steps": steps}}, ranks, 3)
    ids = open_tokenizer(folder).encode(TEXT).ids
    begin, theirs = loss_of(open_model(folder), ids, 512, 256), open_model(muonp.export(run))
    ours, _ = muonp.loss(run, TEXT, 512, 256, 2)
    report.number("loss, np 4 and 2, stage 3", ours, loss_of(theirs, ids, 512, 256), 1e-4, f" (it was {begin:.4f} at first)")


def main():
    folders = [pathlib.Path(f).resolve() for f in sys.argv[2:]]
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        muonp, scratch = Muonp(sys.argv[1], scratch), pathlib.Path(scratch)
        small = {name: make_random(name, folders[0], scratch / name) for name in MADE}
        for name, folder in small.items():
            compare(report, muonp, f"random {name}", folder)
        half = make_random("llama", folders[0], scratch / "llama-bfloat16", torch.bfloat16)
        compare(report, muonp, "random llama, bfloat16", half)
        compare_trained(report, muonp, small["llama"])
        adapters.compare(report, muonp, small)
        for folder in folders:
            compare(report, muonp, folder.name, folder)
    sys.exit(0 if report.good else 1)


main()
