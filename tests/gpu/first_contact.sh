#!/usr/bin/env bash
# The program on a real GPU, in one call of at most 9 minutes: does it start, is it right, how fast is it beside PyTorch on
# the same machine, and where does the time go (docs/gpu.md). The machine needs a driver, CUDA 13 and python3 with PyTorch;
# nothing is installed there.
#
#   Where it is built, after `cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES=90 && cmake --build --preset cuda`:
#     first_contact.sh bundle build/cuda .gpu        # writes .gpu/bundle.tar.xz (about 30 MB) and .gpu/first_contact.sh
#   On the machine with the GPU:
#     bash .gpu/first_contact.sh .gpu
#   Scaffold test without a GPU:  DRY=1 bash first_contact.sh FOLDER_WITH_A_BUNDLE   (needs numpy)
#
# Each stage has a time limit of its own and goes on when another fails. A table is printed at the end, whatever happened.
# Saved under $OUT: table.txt, summary.json, ncu.csv, ncu_spectral.csv, trace.json, logs.tar.gz; and `environment`, to be read by a
# shell (`. environment; mu $M ...`) that goes on with the program.
set -u
self=$(realpath "$0")

# ------------------------------------------------------------------------------------------------ bundle
# What launch/bundle.sh makes, with test programs beside the program.
make_bundle() {
  local build out b p with=()
  build=$(realpath "$1") && mkdir -p "$2" && out=$(realpath "$2") && b=$(mktemp -d) || return 1
  for p in tests/optim/gpu_parity_tests tests/core/core_tests tests/core/attention_bench tests/optim/optim_tests tests/optim/spectral_tests \
           tests/models/model_tests tests/dist/compression_tests tests/dist/dist_nccl_rank_tests \
           tests/dist/dist_staged_rank_tests; do
    if [ -x "$build/$p" ]; then with+=(--with "$p"); else echo "missing: $p" >&2; fi
  done
  "$(dirname "$self")/../../launch/bundle.sh" "${with[@]}" "$build" "$b/bundle" || { rm -rf "$b"; return 1; }
  tar c -C "$b/bundle" . | xz --lzma2=preset=6,dict=64MiB >"$out/bundle.tar.xz" && cp "$self" "$out/first_contact.sh"
  du -sm "$b/bundle" "$out/bundle.tar.xz"; rm -rf "$b"
}
if [ "${1:-}" = bundle ]; then make_bundle "$2" "$3"; exit; fi

# ------------------------------------------------------------------------------------------------ set-up
here=$(realpath "${1:-.}")
DRY=${DRY:-0} DEVICE=cuda
[ "$DRY" = 1 ] && DEVICE=cpu
PY=${PY:-python3}
W=$(mktemp -d /tmp/first.XXXX) OUT=${OUT:-$W/out}
mkdir -p "$OUT" "$W/log"
ulimit -c 0
begin=$SECONDS budget=${BUDGET:-535}
left() { echo $((budget - (SECONDS - begin))); }
: >"$W/stages.tsv"

# stage NAME LIMIT COMMAND...: log/NAME.log, and a line of stages.tsv: name, status, seconds.
stage() {
  local name=$1 limit=$2 t=$SECONDS rc; shift 2
  local rest=$(($(left) - 12))
  [ "$limit" -gt "$rest" ] && limit=$rest
  if [ "$limit" -lt 4 ]; then printf '%s\tno time\t0\n' "$name" >>"$W/stages.tsv"; return 0; fi
  timeout -k 3 "$limit" "$@" >"$W/log/$name.log" 2>&1; rc=$?
  printf '%s\t%s\t%s\n' "$name" "$rc" $((SECONDS - t)) >>"$W/stages.tsv"
  echo "[$((SECONDS - begin)) s] $name: status $rc, $((SECONDS - t)) s"
}

finish() {
  trap - EXIT
  $PY "$W/table.py" "$W" "$OUT" 2>&1 | tee "$OUT/table.txt"
  cp "$W"/ncu*.csv "$OUT/" 2>/dev/null
  tar czf "$OUT/logs.tar.gz" -C "$W" log stages.tsv $(cd "$W" && ls ./*.json 2>/dev/null) 2>/dev/null
  [ -n "${torch_pid:-}" ] && kill "$torch_pid" 2>/dev/null
  true
}
trap finish EXIT

cat >"$W/table.py" <<'EOF'
import collections, csv, glob, json, os, re, sys
W, OUT = sys.argv[1:3]
def read(name):
    try: return open(f'{W}/log/{name}.log', errors='replace').read()
    except OSError: return ''
def load(path):
    try: return json.load(open(path))
    except Exception: return {}
def last_json(text):
    at = text.find('{')
    try: return json.loads(text[at:text.rindex('}') + 1]) if at >= 0 else {}
    except ValueError: return {}
out = {'stages': [l.rstrip('\n').split('\t') for l in open(f'{W}/stages.tsv')]}
print('== stages:', '  '.join(f'{n}={s}({t}s)' for n, s, t in out['stages']))
print('==', ' | '.join(l.strip() for l in read('machine').splitlines()[:6]))
for name in ('parity', 'core', 'optim', 'spectral_tests', 'models', 'compression', 'sanitizer', 'racecheck', 'nccl1', 'staged2'):
    t = read(name)
    if not t: continue
    ok, bad = re.findall(r'\[  PASSED  \] (\d+)', t), re.findall(r'\[  FAILED  \] (\S+)', t)
    errors = re.findall(r'(?:ERROR|RACECHECK) SUMMARY: (\d+)', t)
    print(f'{name:15s} passed {ok[-1] if ok else "?"}  failed {len(set(bad))} {sorted(set(bad))[:3]}' + (f'  sanitizer errors {errors[-1]}' if errors else ''))
    out[name] = {'passed': ok[-1:] , 'failed': sorted(set(bad))}
t = read('train'); print(t.strip()[-900:]); out['train'] = t
torch = load(f'{W}/torch.json'); out['torch'] = torch
print('== GPT-2 124M, sequences of 1024, bfloat16')
for b in (4, 16, 32, 64):
    for rule in ('muonp', 'adamw'):
        r = last_json(read(f'step{b}{rule}'))
        if not r: continue
        out[f'step{b}{rule}'] = r
        fb = r['forward_seconds'] + r['backward_seconds']
        print(f"muonp {rule:6s} B={b:3d}  {r['tokens_per_second']:10.0f} tok/s  step {1e3*r['seconds_median']:8.2f} ms = fwd {1e3*r['forward_seconds']:.2f} + bwd {1e3*r['backward_seconds']:.2f} + spectral {1e3*r['spectral_seconds']:.2f} + other {1e3*(r['other_seconds']+r['communication_seconds']):.2f}"
              f"  fwd+bwd {r['forward_backward_tokens_per_second']:.0f} tok/s, attention {r.get('attention', '?')[:60]}, MFU {r['model_flops']/fb/989e12:.1%}  peak {r['peak_bytes']/2**30:.1f} GiB")
for k in ('gpt_fb_tok_s', 'gpt_step_tok_s', 'gpt_mfu'):
    if k in torch: print(f'torch {k:16s} {torch[k]}')
r = last_json(read('attention'))
for b in r.get('benchmarks', []):
    if b is r['benchmarks'][0]: print('== attention')
    print(f"{b['name'].removesuffix('/real_time'):66s} {b['real_time']:9.1f} us {b['flops']/1e12:6.1f} Tflop/s  {b.get('label', 'on the CPU')[:60]}")
out['attention'] = r
print('== spectral step (ms), of plain product, worst / Frobenius error')
for f in sorted(glob.glob(f'{W}/log/spectral[0-9]*.log')):
    r = last_json(open(f, errors='replace').read())
    if not r: continue
    out[os.path.basename(f)] = r
    for m in [r] + r.get('others', []):
        e = [m.get('relative_error_max'), m.get('relative_error_frobenius')]
        e = ' / '.join('-' if x is None else f'{100*x:.2f} %' for x in e)
        print(f"{r['rows']:5d} {m['method']:16s} p={m['p']:4s} {m['dtype']:9s} {1e3*m['seconds_median']:9.3f} ms  {m['gflops']/1e3:7.1f} Tflop/s  {m['gemm_fraction']:6.1%} of {m['gemm_gflops']/1e3:.0f}  {e}")
for k, v in torch.items():
    if not k.startswith('gpt'): print(f'torch {k:34s} {v if not isinstance(v, float) else round(v, 4)}')
def kernels(what, title):  # of ncu's --page raw: a row for each kernel, whose name and time are two of its columns
    try: rows = list(csv.reader(l for l in open(f'{W}/{what}.csv', errors='replace') if l.startswith('"')))
    except OSError: return
    if not rows: return
    k, m = rows[0].index('Kernel Name'), rows[0].index('gpu__time_duration.sum')
    total = collections.Counter(); count = collections.Counter()
    for r in rows[1:]:
        if not r[m].replace('.', '').replace(',', '').isdigit(): continue
        v = 1e-6 * float(r[m].replace(',', '')); n = r[k]  # --print-units base: ns
        inner = re.search(r'\(anonymous namespace\)::(\w+)', n) or re.search(r'ops::(\w+)', n)
        key = (re.sub(r'.*?(\w+)<.*', r'\1', n)[:28] + (':' + inner.group(1) if inner else '')) if 'muonp' in n else n[:60]
        total[key] += v; count[key] += 1
    s = sum(total.values())
    if not s: return
    print(f'== kernels of {title}, by ncu: {sum(count.values())} launches, {s:.2f} ms of GPU time')
    for k, v in total.most_common(16): print(f'{v:9.3f} ms {v/s:6.1%} {count[k]:5d} x  {k}')
    out[what] = {k: [count[k], v] for k, v in total.items()}
kernels('ncu', 'the first pass, B=4')
kernels('ncu_spectral', 'the spectral steps of GPT-2 124M, p = 1/3')
for name in ('refused', 'shared', 'mpi2'):
    print(f'{name}:', ' / '.join(read(name).strip().splitlines()[-2:])[:300])
json.dump(out, open(f'{OUT}/summary.json', 'w'), indent=1)
EOF

# ------------------------------------------------------------------------------------------------ 0: the machine, the bundle
machine() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader
  uname -r; nproc; ldd --version | head -1; nvcc --version 2>/dev/null | tail -2 | head -1; $PY -c 'import torch; print("torch", torch.__version__, torch.cuda.nccl.version(), torch.backends.cudnn.version())'
  ip -brief addr 2>/dev/null; df -h /dev/shm | tail -1; for t in ncu compute-sanitizer xz; do command -v $t; done
}
export -f machine; export PY  # `timeout` cannot call a function: a shell of its own does
stage machine 25 bash -c machine
cat "$W/log/machine.log"
[ -s "$here/bundle.tar.xz" ] || { echo "no bundle.tar.xz in $here"; exit 1; }
mkdir -p "$W/b"
stage unpack 60 $PY -c "import tarfile; tarfile.open('$here/bundle.tar.xz', 'r:xz').extractall('$W/b')"
B=$W/b/bin M=$W/b/bin/muonp

# The folders of cuBLAS, the runtime and NCCL: the toolkit's, else those of PyTorch's wheels.
find_folder() {
  local d
  for d in /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib /usr/lib/x86_64-linux-gnu \
           $($PY -c 'import glob,sysconfig; p=sysconfig.get_paths()["purelib"]; print(*glob.glob(p+"/nvidia/*/lib"))' 2>/dev/null); do
    [ -e "$d/$1" ] && { echo "$d"; return; }
  done
  dirname "$(find / -xdev -name "$1" -print -quit 2>/dev/null)" 2>/dev/null
}
cublas=$(find_folder libcublas.so.13) nccl=$(find_folder libnccl.so.2) cudart=$(find_folder libcudart.so.13) 
# cuDNN has to be 9.15.1 or newer: PyTorch's own before the system's.
cudnn=$(dirname "$($PY -c 'import glob,sysconfig; print(*glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/cudnn/lib/libcudnn.so.9"))' 2>/dev/null)" 2>/dev/null)
[ -e "$cudnn/libcudnn.so.9" ] || cudnn=$(find_folder libcudnn.so.9)
export MULIB="$W/b/lib:$cudnn:$cublas:$nccl:$cudart:/usr/local/nvidia/lib64:/usr/local/nvidia/lib"
echo "cuBLAS $cublas  NCCL $nccl  runtime $cudart  cuDNN $cudnn"
O=$W/b/ompi
export OPAL_PREFIX=$O OPAL_BINDIR=$O/bin OPAL_LIBDIR=$O/lib OPAL_PKGLIBDIR=$O/lib/openmpi3 OPAL_PKGDATADIR=$O/share/openmpi \
  OPAL_SYSCONFDIR=$O/etc/openmpi PMIX_INSTALL_PREFIX=$O/pmix PMIX_PKGLIBDIR=$O/pmix/pmix PMIX_DATADIR=$O/pmix/share \
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
  NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 NCCL_DEBUG=WARN CUDA_MODULE_LOADING=LAZY
mu() { env LD_LIBRARY_PATH="$MULIB" "$@"; }
export -f mu
MPIRUN="$O/bin/mpirun --oversubscribe --bind-to none --mca rtc_hwloc_vmhole none --mca pml ob1 --mca btl vader,self --mca btl_vader_single_copy_mechanism none --mca plm isolated"
{ declare -f mu; declare -p MULIB MPIRUN M W; export -p | grep -E ' (OPAL|PMIX|OMPI|NCCL|CUDA)_'; } >"$OUT/environment"
# First reads of 800 MB of libraries are the disk's time, and NCCL has only half of parallel.timeout_seconds to start.
(cat "$cublas"/libcublas.so.13 "$cublas"/libcublasLt.so.13 "$nccl"/libnccl.so.2 >/dev/null 2>&1 &)

# Tokens as of text: Zipf over the GPT-2 vocabulary (bytes of real text would put 18 % of a batch on one id).
$PY - "$W/tokens.bin" <<'EOF'
import numpy as np, sys
rng = np.random.default_rng(1); n = 3_000_000
p = 1 / (np.arange(50257) + 2.7); p /= p.sum()
ids = rng.permutation(50257)[np.searchsorted(np.cumsum(p), rng.random(n)).clip(0, 50256)].astype('<u2')
h = np.zeros(256, '<i4'); h[:3] = 20240520, 1, n
open(sys.argv[1], 'wb').write(h.tobytes() + ids.tobytes())
EOF
config() {  # BATCH RULE
  local matrices=''
  [ "$2" = muonp ] &&
    matrices=', p: 1/3, splits: [{name: qkv, pattern: "*.attention.qkv.weight", axis: rows, parts: [q, k, v]}]'
  cat <<EOF
device: $DEVICE
run: {name: fc$1$2, dir: $W/runs, steps: 100}
data: {train: $W/tokens.bin, sequence: 1024, batch: $1, micro_batch: $1, validation_fraction: 0.02}
model: {preset: gpt2-124m}
optimizer:
  matrices: {rule: $2$matrices}
parallel: {zero: 1, compute: bfloat16, timeout_seconds: 120}
log: {peak: false}
EOF
}
for b in 4 16 32 64; do for r in muonp adamw; do config $b $r >"$W/step$b$r.yaml"; done; done

# ------------------------------------------------------------------------------------------------ PyTorch, compiled beside what follows
cat >"$W/torch_ref.py" <<'EOF'
# Compiles at once; measures when the file `go` is there, so that nothing else is on the GPU.
import ctypes, json, math, os, sys, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
W, go = sys.argv[1], sys.argv[2]
R = {}
def save(): json.dump(R, open(W + '/torch.json', 'w'), indent=1)
if not torch.cuda.is_available(): save(); sys.exit(0)
torch.manual_seed(1); dev = 'cuda'; torch.set_float32_matmul_precision('high')
def attempt(f):
    try: f()
    except Exception as e: R['failed ' + f.__name__] = repr(e)[:200]
    save()
def ms(f, n=10, warm=3):
    for _ in range(warm): f()
    e = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]; e[0].record()
    for i in range(n): f(); e[i + 1].record()
    torch.cuda.synchronize()
    t = sorted(e[i].elapsed_time(e[i + 1]) for i in range(n)); return t[n // 2]
class Block(nn.Module):
    def __init__(s, d=768, h=12):
        super().__init__(); s.h = h; s.l1, s.l2 = nn.LayerNorm(d), nn.LayerNorm(d)
        s.qkv, s.proj, s.up, s.down = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
    def forward(s, x):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, s.h, d // s.h).transpose(1, 2) for y in s.qkv(s.l1(x)).split(d, 2))
        x = x + s.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))
        return x + s.down(F.gelu(s.up(s.l2(x)), approximate='tanh'))
class Gpt(nn.Module):
    def __init__(s, vocab=50304, d=768, n=12):
        super().__init__(); s.wte, s.wpe = nn.Embedding(vocab, d), nn.Embedding(1024, d)
        s.blocks = nn.ModuleList(Block() for _ in range(n)); s.lf = nn.LayerNorm(d); s.head = nn.Linear(d, vocab, bias=False); s.head.weight = s.wte.weight
    def forward(s, i, y):
        x = s.wte(i) + s.wpe(torch.arange(i.shape[1], device=i.device))
        for b in s.blocks: x = b(x)
        return F.cross_entropy(s.head(s.lf(x)).flatten(0, 1), y.flatten())
BATCH = 32
ids = torch.from_numpy(np.fromfile(W + '/tokens.bin', '<u2', offset=1024)[:BATCH * 1024 + 1].astype(np.int64)).to(dev)
x, y = ids[:-1].view(BATCH, 1024), ids[1:].view(BATCH, 1024)
model = Gpt().to(dev); opt = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True); fast = torch.compile(model)
def fb():
    with torch.autocast('cuda', torch.bfloat16): loss = fast(x, y)
    loss.backward()
def step(): fb(); opt.step(); opt.zero_grad(set_to_none=True)
@torch.compile
def ns5(G):
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G.bfloat16(); X = X.mT if G.size(-2) > G.size(-1) else X
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        A = X @ X.mT; X = a * X + (b * A + c * A @ A) @ X
    return X.mT if G.size(-2) > G.size(-1) else X
grads = {n: torch.randn(*s, device=dev) for n, s in {'1024': (1024, 1024), '4096': (4096, 4096), '4096x1024': (4096, 1024)}.items()}
def compile_all():
    step()
    for g in grads.values(): ns5(g)
    torch.cuda.synchronize(); torch.cuda.empty_cache(); R['compile_seconds'] = time.perf_counter() - start
start = time.perf_counter(); attempt(compile_all)
while not os.path.exists(go): time.sleep(0.2)

def gpt():
    t = ms(fb); opt.zero_grad(set_to_none=True); u = ms(step)
    flops = 3 * (12 * (2 * 12 * 768 * 768 + 4 * 768 * 1024) + 2 * 50257 * 768)  # as models/gpt/gpt_cost.cpp
    R['gpt_fb_tok_s'] = f'{BATCH * 1024 / t * 1e3:.0f} (B={BATCH}, {t:.2f} ms, compiled, vocabulary 50304)'
    R['gpt_step_tok_s'] = f'{BATCH * 1024 / u * 1e3:.0f} (fused AdamW, {u:.2f} ms)'
    R['gpt_mfu'] = f'{flops * BATCH * 1024 / t * 1e3 / 989e12:.1%} forward and backward'
def peaks():
    for name, dt in (('bf16', torch.bfloat16), ('fp16', torch.float16), ('tf32', torch.float32)):
        for n in (1024, 4096, 8192):
            a, b = (torch.randn(n, n, device=dev).to(dt) for _ in 'ab'); t = ms(lambda: a @ b); R[f'gemm {name} {n} Tflop/s'] = 2 * n**3 / t / 1e9
    a = torch.empty(1 << 30, dtype=torch.float32, device=dev).normal_(); b = torch.empty_like(a); R['copy TB/s'] = 8 * (1 << 30) / ms(lambda: b.copy_(a)) / 1e9
def muon():
    for n, g in grads.items(): R[f'NS5 bf16 compiled {n} ms'] = ms(lambda: ns5(g))
    def ns(X):
        for _ in range(5):
            A = X @ X.mT; X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=-4.775, alpha=2.0315), X, beta=3.4445)
        return X
    for b, r, c in ((48, 768, 768), (24, 768, 3072), (1, 8192, 8192)):
        X = torch.randn(b, r, c, device=dev, dtype=torch.bfloat16) / c; R[f'NS5 bf16 baddbmm {b}x{r}x{c} ms'] = ms(lambda: ns(X), 5)
def panels():  # core/device/symmetric.cpp, gpu_panels(): is a half product by panels cheaper than a full one?
    for n in (768, 1024, 2048, 4096, 8192):
        most = 256 if n <= 1024 else n // 8
        a, b = (torch.randn(n, n, device=dev).half() for _ in 'ab'); c = torch.empty_like(a)
        def half():
            for r in range(0, n, most): torch.mm(a[r:r + most], b[:, :r + most], out=c[r:r + most, :r + most])
        R[f'panels / full product, fp16 {n}'] = f'{ms(half):.4f} / {ms(lambda: torch.mm(a, b, out=c)):.4f} ms'
def head():  # core/autograd/ops/head_loss.cpp: rows 50257 apart
    n = 16384; x = torch.randn(n, 768, device=dev).bfloat16()
    for v in (50257, 50304):
        w = torch.randn(v, 768, device=dev).bfloat16(); d = torch.randn(n, 2 * v, device=dev, dtype=torch.bfloat16)[:, :v]
        out = torch.empty(n, v, device=dev, dtype=torch.float32)
        try: f = ms(lambda: torch.mm(x, w.t(), out_dtype=torch.float32, out=out), 5)
        except Exception: f = ms(lambda: torch.mm(x, w.t(), out_dtype=torch.float32), 5)
        R[f'head {v}: logits, dW, dX ms'] = f'{f:.3f}, {ms(lambda: d.t() @ x, 5):.3f}, {ms(lambda: d @ w, 5):.3f}'
def attention():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    q, k, v = (torch.randn(16, 12, 1024, 64, device=dev, dtype=torch.bfloat16, requires_grad=True) for _ in 'qkv'); g = torch.randn_like(q)
    for n, s in (('flash', SDPBackend.FLASH_ATTENTION), ('cudnn', SDPBackend.CUDNN_ATTENTION)):
        with sdpa_kernel(s):
            f = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
            R[f'SDPA {n} us a sequence and layer, fwd / fwd+bwd'] = f'{ms(f) * 1e3 / 16:.1f} / {ms(lambda: f().backward(g)) * 1e3 / 16:.1f}'
def pageable():  # core/device/cuda/queue.cpp:84: has the source been read when the call returns?
    rt = ctypes.CDLL('libcudart.so.13'); value = ctypes.c_int(); rt.cudaDeviceGetAttribute(ctypes.byref(value), 88, 0)
    R['cudaDevAttrPageableMemoryAccess'] = value.value; bad = 0
    for _ in range(20):
        s = torch.ones(16 << 20); d = torch.empty(16 << 20, device=dev); torch.cuda._sleep(50_000_000); d.copy_(s, non_blocking=True); s.zero_(); bad += int((d != 1).any())
    R['pageable copies that saw a later write'] = bad
for f in (gpt, muon, panels, head, attention, peaks, pageable): attempt(f)
EOF
(exec timeout 480 $PY "$W/torch_ref.py" "$W" "$W/go" >"$W/log/torch.log" 2>&1) & torch_pid=$!

# ------------------------------------------------------------------------------------------------ 1: does it start
smoke() {
  ldd_missing=$(LD_LIBRARY_PATH="$MULIB" ldd "$1" | grep 'not found'); [ -n "$ldd_missing" ] && echo "$ldd_missing"
  mu "$1" --version && mu "$1" bench spectral --device "$2" --rows 256 --cols 256 --p 1/3 --repeats 3 --json
}
export -f smoke
stage smoke 60 bash -c "smoke $M $DEVICE"
stage configs 20 bash -c "for c in $W/step*.yaml; do mu $M plan \$c --ranks 1 || exit 1; done"
tail -n 5 "$W/log/smoke.log"

# ------------------------------------------------------------------------------------------------ 2: is it right (all beside each other; no timings)
tests() { env MUONP_TEST_DEVICE=$DEVICE LD_LIBRARY_PATH="$MULIB" "$@"; }
export -f tests; export DEVICE
kernels='ForEach*:*Norm*:Attention*:Rotary*:Linear*:Embedding*:HeadLoss*:Gelu*:Relu*:Swiglu*:Add*:Dropout*:Symmetric*:Gram*:Gemm*'
train_check() {  # losses of the GPU beside the CPU's: every ZeRO stage, overlap, bfloat16, float16 storage, recomputation, chunks
  local d=$W/tiny; mkdir -p "$d"; cd "$d" || return
  $PY - <<'EOF'
words = "sun moon river stone and of the was light water".split(); s = 12345; t = []
for _ in range(8000): s = (s * 1664525 + 1013904223) & 0xffffffff; t.append(words[(s >> 24) % 10])
open('text.txt', 'w').write(' '.join(t))
EOF
  cat >tiny.yaml <<EOF
run: {steps: 12, seed: 5, dir: $d/runs}
data: {train: text.txt, sequence: 32, batch: 12}
model: {layers: 2, heads: 2, width: 32, context: 32}
optimizer: {matrices: {p: 1/2, lr: 3e-3, dtype: float32}, others: {lr: 3e-3}}
schedule: {kind: cosine, warmup: 3}
parallel: {threads: 1, bucket_mib: 0.02, wave_mib: 0.02}
log: {hash_every: 1, peak: false, validate_every: 10, validation_batches: 2}
EOF
  one() { local n=$1; shift; mu "$M" train tiny.yaml --set run.name="$n" $(printf -- '--set %s ' "$@") >"$n.log" 2>&1 || { echo "$n: status $?"; tail -n 2 "$n.log"; }; }
  one cpu device=cpu
  for z in 0 1 2 3; do one zero$z device=$DEVICE parallel.zero=$z parallel.overlap=true; done
  one chunks device=$DEVICE model.head_chunk_rows=8 model.recompute=blocks data.micro_batch=4 model.dropout=0
  if [ "$DEVICE" = cuda ]; then one bf16 device=cuda parallel.compute=bfloat16; one fp16 device=cuda optimizer.matrices.dtype=float16; one tf32 device=cuda optimizer.matrices.dtype=tf32; fi
  $PY - <<'EOF'
import glob, json
def losses(n): return [json.loads(l)['loss'] for l in open(f'runs/{n}/metrics.jsonl') if '"loss"' in l]
ref = losses('cpu'); print('losses beside the CPU (largest relative difference over 12 steps):', end=' ')
for f in sorted(glob.glob('runs/*/metrics.jsonl')):
    n = f.split('/')[1]
    if n != 'cpu': x = losses(n); print(f'{n} {max(abs(a - b) / b for a, b in zip(x, ref)):.1e}' + ('' if len(x) == 12 else f' ({len(x)} steps)'), end='  ')
print()
EOF
}
export -f train_check; export W M
pids=()
stage parity 85 bash -c "tests $B/gpu_parity_tests" & pids+=($!)
stage core 85 bash -c "tests $B/core_tests --gtest_filter='$kernels:Autograd*:HostView*:Tensor*:Allocator*'" & pids+=($!)
stage optim 85 bash -c "tests $B/optim_tests" & pids+=($!)
stage spectral_tests 85 bash -c "tests $B/spectral_tests" & pids+=($!)
stage models 85 bash -c "tests $B/model_tests" & pids+=($!)
stage compression 85 bash -c "tests $B/compression_tests" & pids+=($!)
stage train 85 bash -c train_check & pids+=($!)
stage nccl1 60 bash -c "mu $MPIRUN -np 1 $B/dist_nccl_rank_tests --ranks=1" & pids+=($!)
[ "$DRY" = 1 ] || stage staged2 60 bash -c "mu $MPIRUN -np 2 $B/dist_staged_rank_tests --ranks=2" & pids+=($!)
if command -v compute-sanitizer >/dev/null; then
  stage sanitizer 90 env MUONP_NO_MEMORY_CACHE=1 MUONP_TEST_DEVICE=$DEVICE compute-sanitizer --target-processes all --error-exitcode 1 \
    env LD_LIBRARY_PATH="$MULIB" "$B/core_tests" --gtest_filter='ForEach*:*Norm*:Attention*:Linear*:Embedding*:HeadLoss*:Gelu*:Symmetric*' & pids+=($!)
fi
if command -v compute-sanitizer >/dev/null; then
  stage racecheck 60 env MUONP_TEST_DEVICE=$DEVICE compute-sanitizer --tool racecheck --target-processes all --error-exitcode 1 \
    env LD_LIBRARY_PATH="$MULIB" "$B/core_tests" --gtest_filter='Attention.*Roundings:AttentionWithCache*' & pids+=($!)
fi
wait "${pids[@]}"
# PyTorch has compiled by now, or has until the first timing to do so.
for _ in $(seq 30); do grep -q compile_seconds "$W/torch.json" 2>/dev/null && break; kill -0 "$torch_pid" 2>/dev/null || break; sleep 1; done

# ------------------------------------------------------------------------------------------------ 3: how fast, with the GPU to itself
repeats=5; [ "$DRY" = 1 ] && repeats=1
if [ "$DRY" != 1 ]; then
  for b in 4 32 64; do stage step${b}muonp 40 bash -c "mu $M bench step $W/step${b}muonp.yaml --repeats $repeats --json"; done
  stage step32adamw 30 bash -c "mu $M bench step $W/step32adamw.yaml --repeats $repeats --json"
fi
only=; [ "$DRY" = 1 ] && only='--benchmark_filter=documents.of.256'
stage attention 30 bash -c "tests $B/attention_bench --benchmark_min_time=0.05 --benchmark_format=json $only"
# PyTorch on the same machine, right after; then the spectral step.
t=$SECONDS; touch "$W/go"
for _ in $(seq 110); do [ "$(left)" -lt 100 ] && break; kill -0 "$torch_pid" 2>/dev/null || break; sleep 1; done
kill "$torch_pid" 2>/dev/null; printf 'torch\t%s\t%s\n' "$([ -s "$W/torch.json" ] && echo 0 || echo 1)" $((SECONDS - t)) >>"$W/stages.tsv"

sizes="1024 4096 8192"; [ "$DRY" = 1 ] && sizes="96 128"
for n in $sizes; do
  methods=coupled_minimax@1/3,coupled_minimax@1/2,coupled_minimax@0 types=float16,bfloat16,tf32 r=10 errors=
  [ "$n" -gt 1024 ] && types=float16,bfloat16 errors=--no-errors  # float64 on the host would take minutes
  [ "$DRY" = 1 ] && types=float32 r=1
  stage spectral$n 45 bash -c "mu $M bench spectral --device $DEVICE --rows $n --cols $n --method $methods --compare newton_schulz5@0 --dtype $types --repeats $r $errors --json"
done
stage spectral4096x1024 25 bash -c "mu $M bench spectral --device $DEVICE --rows $((DRY == 1 ? 64 : 4096)) --cols $((DRY == 1 ? 32 : 1024)) --method coupled_minimax@1/3 --compare newton_schulz5@0 --dtype $([ "$DRY" = 1 ] && echo float32 || echo float16,float32) --repeats 5 --json"

# ------------------------------------------------------------------------------------------------ 4: where the time goes, one pass kernel by kernel
if command -v ncu >/dev/null && [ "$DRY" != 1 ]; then
  stage ncu 60 ncu --target-processes all --clock-control none --metrics gpu__time_duration.sum --csv --page raw --print-units base \
    --log-file "$W/ncu.csv" --launch-count 1100 env LD_LIBRARY_PATH="$MULIB" "$M" bench step "$W/step4adamw.yaml" --repeats 1
  stage ncu_spectral 60 ncu --target-processes all --clock-control none --metrics gpu__time_duration.sum --csv --page raw --print-units base \
    --nvtx --nvtx-include "spectral/" --log-file "$W/ncu_spectral.csv" --launch-count 1000 \
    env LD_LIBRARY_PATH="$MULIB" "$M" bench step "$W/step4muonp.yaml" --repeats 1
  stage trace 30 bash -c "mu $M bench step $W/step4muonp.yaml --repeats 2 --trace $OUT/trace.json"
fi

# ------------------------------------------------------------------------------------------------ 5: several ranks, as far as one GPU goes
stage refused 25 bash -c "cd $W/tiny && mu $MPIRUN -np 2 $M train tiny.yaml --set device=$DEVICE --set run.name=two"
[ "$DRY" = 1 ] || stage shared 25 bash -c "cd $W/tiny && mu $MPIRUN -np 2 $M train tiny.yaml --set device=cuda --set parallel.transport=mpi --set run.name=shared"
stage mpi2 25 bash -c "cd $W/tiny && mu $MPIRUN -np 2 $M train tiny.yaml --set device=cpu --set run.name=cpu2 --set parallel.zero=2"
exit 0
