#!/usr/bin/env bash
# Runs the built program as a person would, with good and bad input: exit status and message of each.
#   cli_test.sh MUONP [MPIRUN]
set -u
muonp=$(realpath "$1")
clusters=$(realpath "$(dirname "$0")/../../configs/clusters")
mpirun=${2:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
unset OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE PMI_RANK PMI_SIZE
export LC_ALL=C OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failures=0

# failed TEXT...: counts and names what is not as it should be.
failed() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

# expect NAME STATUS TEXT COMMAND...: the command ends with STATUS and prints TEXT (a fixed string) somewhere. What it
# printed is left in `output`.
expect() {
  local name=$1 status=$2 text=$3
  shift 3
  local got
  output=$("$@" 2>&1 </dev/null)
  got=$?
  if [[ $got -ne $status || $output != *"$text"* ]]; then
    echo "FAILED: $name: status $got, expected $status with '$text'. Output:"
    echo "$output" | head -20
    failures=$((failures + 1))
  fi
}

# expect_one_line NAME COMMAND...: an error is one line on standard error and nothing on standard output.
expect_one_line() {
  local name=$1
  shift
  "$@" >out.txt 2>err.txt </dev/null
  if [[ -s out.txt || $(wc -l <err.txt) -ne 1 ]]; then
    echo "FAILED: $name: expected one line on standard error. Output:"
    cat out.txt err.txt | head -20
    failures=$((failures + 1))
  fi
}

# npy FILE SHAPE: a float32 matrix of the values 1 to count (as single bytes of the exponent, all finite and nonzero).
npy() {
  local header="{'descr': '<f4', 'fortran_order': False, 'shape': $2, }"
  while (((10 + ${#header} + 1) % 64)); do header+=' '; done
  printf '\x93NUMPY\x01\x00'"\\x$(printf %02x $((${#header} + 1)))"'\x00%s\n' "$header" >"$1"
  for ((i = 0; i < $3; ++i)); do printf "\\x00\\x00\\x$(printf %02x $((128 + i % 100)))\\x3f" >>"$1"; done
}

# --- the command line
expect 'help' 0 'Examples:' "$muonp" --help
for command in train eval generate chat tokenize spectral bench plan config compare checkpoint sweep report export-metrics; do
  expect "help of $command" 0 'Examples:' "$muonp" $command --help
done
expect 'help of bench spectral' 0 'Examples:' "$muonp" bench spectral --help
expect 'version' 0 'oneDNN' "$muonp" --version
expect 'no command' 2 'a command is needed' "$muonp"
expect 'unknown command' 2 "unknown command 'trian'; the nearest is 'train'" "$muonp" trian
expect 'unknown option' 2 "unknown option '--inn'; the nearest is '--in'" "$muonp" spectral --inn x --in a --out b --p 1
expect 'missing option' 2 '--out is required' "$muonp" spectral --in a --p 1/2
expect 'missing value' 2 '--in' "$muonp" spectral --p 1/2 --out b --in
expect 'not a number' 2 '--threads' "$muonp" spectral --in a --out b --p 1/2 --threads many
expect 'negative threads' 2 '--threads' "$muonp" spectral --in a --out b --p 1/2 --threads -1
# numbers: one way to read them, and a range, for every option of every command
refuse_numbers() {  # OPTION RANGE VALUES... -- COMMAND...
  local option=$1 range=$2 values=() value
  shift 2
  while [[ $1 != -- ]]; do values+=("$1"); shift; done
  shift
  for value in "${values[@]}" 1x 0x10 nan inf 1e400; do
    expect "$* $option '$value'" 2 "$range" "$muonp" "$@" "$option=$value"
    [[ $output == *"$option: "* ]] || failed "$* $option '$value' does not name the option"
  done
}
threads='an integer in [0, 1024]'
refuse_numbers --threads "$threads" -1 100000 1.5 -- spectral --in a --out b --p 1
refuse_numbers --eps 'a number in [0, 0.5]' -1 1 -- spectral --in a --out b --p 1
refuse_numbers --tolerance 'a number in [1e-06, 0.5]' 0 1 -- spectral --in a --out b --p 1
refuse_numbers --tokens 'an integer in [1, 1073741824]' 0 -1 0.5 -- generate run
refuse_numbers --seed 'an integer ≥ 0' -1 -- generate run
refuse_numbers --temperature 'a number ≥ 0' -1 -- generate run
refuse_numbers --top-k 'an integer ≥ 0' -1 -- generate run
refuse_numbers --threads "$threads" 100000 -- generate run
refuse_numbers --batches 'an integer in [0, 1073741824]' -1 -- eval run
refuse_numbers --threads "$threads" 100000 -- eval run
refuse_numbers --vocab 'an integer in [258, 1000000]' 0 257 -- tokenize --in a --out b
refuse_numbers --sample 'a number in [0.001, 1000000000]' 0 1e300 -- tokenize --in a --vocab 300 --out b
refuse_numbers --ranks 'an integer in [1, 65536]' 0 1e9 -- plan a.yaml
refuse_numbers --rows 'an integer in [1, 65536]' 0 65537 -- bench spectral
refuse_numbers --cols 'an integer in [1, 65536]' 0 65537 -- bench spectral
refuse_numbers --repeats 'an integer in [1, 100000]' 0 -- bench spectral
refuse_numbers --seed 'an integer ≥ 0' -1 -- bench spectral
refuse_numbers --eps 'a number in [0, 0.5]' -1 1 -- bench spectral
refuse_numbers --tolerance 'a number in [1e-06, 0.5]' 0 1 -- bench spectral
refuse_numbers --threads "$threads" 4096 -- bench spectral
refuse_numbers --repeats 'an integer in [1, 100000]' 0 -- bench step a.yaml
refuse_numbers --step 'an integer ≥ 0' -1 -- checkpoint export run out
expect 'no subject' 2 'a command is needed: spectral, step' "$muonp" bench
expect_one_line 'unknown command' "$muonp" trian
expect_one_line 'unknown option' "$muonp" train --foo=3 x.yaml

# --- spectral
npy G.npy '(3, 4)' 12
expect 'spectral' 0 'predicted error' "$muonp" spectral --in G.npy --out Z.npy --p 1/2 --threads 1 --check
expect 'spectral as JSON' 0 '"relative_error_max"' "$muonp" spectral --in G.npy --out Z.npy --p 0.25 --check --json
expect 'negative exponent' 0 '"p": "-1/4"' "$muonp" spectral --in G.npy --out Z.npy --p -1/4 --json
[[ $(stat -c %s Z.npy) -eq $(stat -c %s G.npy) ]] || { echo "FAILED: size of Z.npy"; failures=$((failures + 1)); }
npy B.npy '(2, 3, 2)' 12
expect 'batch' 0 '"scale": [' "$muonp" spectral --in B.npy --out Z.npy --p 1/2 --json
npy D.npy '(3, 2)' 12 && sed -i 's/<f4/<f8/' D.npy  # two of float32's numbers as one of float64's
expect 'spectral of float64' 0 '| D.npy: float64' "$muonp" spectral --in D.npy --out Z.npy --p 1/2
sed -i "s/'fortran_order': False, /'fortran_order': True,  /" D.npy
expect 'spectral of Fortran order' 0 '"converted_from": "float64 in Fortran order"' \
  "$muonp" spectral --in D.npy --out Z.npy --p 1/2 --json
expect 'the result is float32' 0 "'<f4', 'fortran_order': False" head -c 80 Z.npy
expect 'exponent out of range' 1 'error' "$muonp" spectral --in G.npy --out Z.npy --p 2
expect 'exponent that is no number' 1 'error' "$muonp" spectral --in G.npy --out Z.npy --p half
for p in nan inf 0x1 1e400 1/0 -9223372036854775808/1 99999999999999999999/3 1/2/3; do
  expect "exponent '$p'" 1 'error: p: ' "$muonp" spectral --in G.npy --out Z.npy --p="$p"
done
expect 'unknown method' 1 'coupled_minimax' "$muonp" spectral --in G.npy --out Z.npy --p 1/2 --method best
expect 'unknown dtype' 1 'float32' "$muonp" spectral --in G.npy --out Z.npy --p 1/2 --dtype double
expect 'missing file' 1 'none.npy' "$muonp" spectral --in none.npy --out Z.npy --p 1/2
expect 'a folder' 1 "$folder" "$muonp" spectral --in "$folder" --out Z.npy --p 1/2
cp G.npy N.npy && printf '\x00\x00\xc0\x7f' | dd of=N.npy bs=1 seek=136 conv=notrunc status=none
expect 'NaN' 1 'N.npy: entry [0, 2] is nan' "$muonp" spectral --in N.npy --out Z.npy --p 1/2
head -c 150 G.npy >T.npy
expect 'truncated' 1 'T.npy: the file is truncated' "$muonp" spectral --in T.npy --out Z.npy --p 1/2
expect 'no folder for the result' 1 'none/Z.npy' "$muonp" spectral --in G.npy --out none/Z.npy --p 1/2
npy L.npy '(64, 64)' 4096
cp G.npy Z.npy
expect 'full disk' 1 'Z.npy' bash -c "ulimit -f 4; exec '$muonp' spectral --in L.npy --out Z.npy --p 1/2"
cmp -s G.npy Z.npy || { echo "FAILED: a full disk destroyed the old file"; failures=$((failures + 1)); }

# OpenMP's limits on threads: fewer than are asked for are an error, what there is is taken, and nothing waits for the rest.
for limit in OMP_THREAD_LIMIT=1 OMP_MAX_ACTIVE_LEVELS=0; do
  expect "$limit, two threads" 1 "2 threads were asked for, but OpenMP starts 1 ($limit" \
    env $limit "$muonp" spectral --in G.npy --out Z.npy --p 1/2 --threads 2 --check
  expect "$limit, one thread" 0 'relative Frobenius error' \
    env $limit timeout 60 "$muonp" spectral --in L.npy --out Z2.npy --p 1/2 --threads 1 --check
  expect "$limit, what there is" 0 'relative Frobenius error' \
    env $limit timeout 60 "$muonp" spectral --in L.npy --out Z2.npy --p 1/2 --check
done
expect 'OMP_DYNAMIC' 0 'relative Frobenius error' \
  env OMP_DYNAMIC=true timeout 60 "$muonp" spectral --in L.npy --out Z2.npy --p 1/2 --threads 2 --check
# LAPACK is loaded where it is needed only, and not where there is no room for it.
# (The stand-in for GPUs links it, and waits for the room for ever; sanitizers take more room than that.)
needs_room=$(ldd "$muonp" | grep -cE 'openblas|libasan|libtsan')
[ "$needs_room" -ne 0 ] || {
  expect 'little address space' 0 'predicted error' \
    timeout 60 bash -c "ulimit -v 250000; exec '$muonp' spectral --in L.npy --out Z2.npy --p 1/2 --threads 1"
  expect 'too little address space for LAPACK' 1 'LAPACK' \
    timeout 60 bash -c "ulimit -v 250000; exec '$muonp' spectral --in L.npy --out Z2.npy --p 1/2 --threads 1 --check"
}

# --- bench
expect 'bench' 0 '"relative_error_frobenius"' \
  "$muonp" bench spectral --rows 48 --cols 32 --p 1/2 --threads 1 --repeats 2 --json
expect 'bench compares' 0 'newton_schulz5' "$muonp" bench spectral --rows 48 --cols 32 --repeats 2 --compare newton_schulz5
expect 'collectives of ranks that are threads' 0 '"wrong": 0' \
  "$muonp" bench collectives --rank-threads 2 --most 64 --factor 8 --seconds 0 --json
[[ $output == *'"wrong": '[1-9]* ]] && failed 'wrong results of collectives'
expect 'collectives of an unknown operation' 1 'valid are barrier' "$muonp" bench collectives --operations reduce
expect 'collectives of an unknown type' 1 'valid are float32' "$muonp" bench collectives --types int32
refuse_numbers --factor 'an integer in [2, 1048576]' 1 -- bench collectives
expect 'a cluster file' 0 'rates of 1 rank on a host' "$muonp" bench --write-cluster here.yaml --largest 128 --seconds 0
expect 'a cluster file in the place of a command' 2 'stands alone' "$muonp" bench --write-cluster here.yaml spectral
expect 'a cluster file of negative time' 2 '--seconds' "$muonp" bench --write-cluster here.yaml --seconds -1
expect 'bench of no rows' 2 '--rows' "$muonp" bench spectral --rows 0 --cols 32

# --- config
"$muonp" config --reference >reference.yaml || { echo "FAILED: config --reference"; failures=$((failures + 1)); }
expect 'reference is read' 1 'reference.yaml' "$muonp" config reference.yaml
expect 'both file and reference' 2 'give one of' "$muonp" config reference.yaml --reference
expect 'neither file nor reference' 2 'give one of' "$muonp" config
expect 'missing configuration' 1 'none.yaml: cannot be opened' "$muonp" config none.yaml
printf 'run:\n  stepz: 3\n' >a.yaml
expect 'unknown key' 1 "a.yaml:2: run.stepz: unknown key; did you mean 'steps'?" "$muonp" config a.yaml
expect 'unknown key by --set' 1 '--set run.stepz=4: run.stepz: unknown key' "$muonp" config a.yaml --set run.stepz=4
printf 'run: {steps: 3}\ndata: {train: x, sequence: 8, batch: 2}\nmodel: {layers: 1, heads: 1, width: 32, context: 8}\n' \
  >b.yaml
printf 'run: {steps: 3}\ndata: {train: x}\nmodel: {preset: gpt-1m}\noptimizer: {matrices: {p: 1/2, lr: 1}, others: {lr: 1}}\n' \
  >c.yaml
expect 'a name that leads upward' 1 "run.name: '..' is not a folder's name" "$muonp" config c.yaml --set run.name=..
expect 'a name of two lines' 1 "is not a folder's name" "$muonp" config c.yaml --set run.name=$'a\nb'
expect 'no folder for runs' 1 'run.dir is empty' "$muonp" config c.yaml --set run.dir=
expect 'numbers that every reader of YAML knows' 0 'eps: 1.0e-08' "$muonp" config c.yaml
expect 'words that no reader of YAML takes for others' 0 'spike: "off"' "$muonp" config c.yaml
expect 'train reports the same' 1 'a.yaml:2: run.stepz: unknown key' "$muonp" train a.yaml

# --- a run: its threads are those that OpenMP starts, its numbers the same for any of them
for ((i = 0; i < 3000; ++i)); do echo "line $((i * i % 977)) of a text"; done >text.txt
cat >tiny.yaml <<'EOF'
run: {name: tiny, steps: 4}
data: {train: text.txt, sequence: 32, batch: 4}
model: {layers: 1, heads: 2, width: 32, context: 32, vocabulary: 256}
log: {peak: false}
EOF
# ends_in_time COMMAND...: as the command, but with status 124 if it has not ended after a minute.
ends_in_time() { timeout 60 "$@"; }
expect 'train' 0 'step 4/4' ends_in_time "$muonp" train tiny.yaml --set parallel.threads=2
loss() { sed -n 's/.*"loss": \([0-9.]*\).*/\1/p' <<<"$output" | cut -c1-5; }
expect 'eval' 0 '"loss"' "$muonp" eval runs/tiny --threads 1 --json
one_thread=$(loss)
for setting in OMP_THREAD_LIMIT=1 OMP_MAX_ACTIVE_LEVELS=0 OMP_DYNAMIC=true OMP_NUM_THREADS=1; do
  expect "eval under $setting" 0 '"loss"' env $setting timeout 60 "$muonp" eval runs/tiny --json
  [[ $(loss) == "$one_thread" ]] || failed "eval under $setting: loss $(loss), not $one_thread"
done
expect 'eval with more threads than run' 1 'OpenMP starts 1 (OMP_THREAD_LIMIT=1)' \
  env OMP_THREAD_LIMIT=1 "$muonp" eval runs/tiny --threads 2
expect 'the table names the limit' 0 'OMP_THREAD_LIMIT=1' \
  env OMP_THREAD_LIMIT=1 "$muonp" plan tiny.yaml
[ "$needs_room" -ne 0 ] || expect 'train in little address space' 0 'step 4/4' \
  ends_in_time bash -c "ulimit -v 250000; exec '$muonp' train tiny.yaml --set run.name=small --set parallel.threads=1"

# --- spectral diagnostics: a line every other step, the last values in compare, and what cannot be measured
expect 'train with spectra' 0 'spectra' ends_in_time "$muonp" train tiny.yaml --set run.name=measured \
  --set log.spectra_every=2 --set parallel.threads=1
[[ $(grep -c '"spectra":{"blocks.0.' runs/measured/metrics.jsonl) -eq 2 ]] || failed "spectra of steps 2 and 4"
! grep -iq 'nan\|inf' runs/measured/metrics.jsonl || failed "spectra that are no numbers"
expect 'compare shows spectra' 0 '| blocks.mlp.up.weight' "$muonp" compare runs/tiny runs/measured --metric loss
expect 'compare of a figure' 0 'best spectra.blocks.mlp.up.weight.weight.stable_rank' \
  "$muonp" compare runs/measured --metric spectra.blocks.mlp.up.weight.weight.stable_rank
expect 'a pattern without a matrix' 1 'log.spectra: pattern blocks.0.mpl* matches no matrix that a rule moves whole' \
  "$muonp" train tiny.yaml --set log.spectra_every=2 --set 'log.spectra=[blocks.0.mpl*]'
expect 'spectra without matrices' 1 'log.spectra_every: no group of this run has a rule that moves whole matrices' \
  "$muonp" train tiny.yaml --set log.spectra_every=2 --set optimizer.matrices.rule=adamw
expect 'spectra of nothing' 1 'log.spectra is empty' "$muonp" train tiny.yaml --set log.spectra_every=2 --set 'log.spectra=[]'
# --- benchmarks of runs
expect 'saving and loading' 0 '"load_bytes_per_second"' \
  "$muonp" bench checkpoint tiny.yaml --repeats 1 --json --set parallel.threads=1
[ ! -e runs/bench-checkpoint ] || failed 'bench checkpoint leaves its folder'
mkdir -p runs/bench-checkpoint
expect 'a folder in the way of saving' 1 'runs/bench-checkpoint exists' "$muonp" bench checkpoint tiny.yaml --repeats 1
rmdir runs/bench-checkpoint || failed 'bench checkpoint touched a folder that it did not make'
expect 'scaling beyond the processors' 1 'would share processors' "$muonp" bench scaling tiny.yaml --ranks 1,4096
expect 'scaling that does not share the batch' 1 'data.batch' "$muonp" bench scaling tiny.yaml --ranks 1 --set data.batch=4 --set data.micro_batch=3
if [[ -n $mpirun ]]; then
  # Open MPI and what it loads leave memory to the end of the process.
  launcher="env ASAN_OPTIONS=detect_leaks=0 $mpirun --oversubscribe --bind-to none"
  expect 'scaling' 0 '"efficiency": 1.0' "$muonp" bench scaling tiny.yaml --ranks 1 --rounds 1 --repeats 1 --json \
    --launcher "$launcher" --compare parallel.zero=1 --compare 'parallel.zero=3 parallel.prefetch=0'
  [[ $output == *'"strong"'*'"weak"'* ]] || failed 'scaling is not strong and weak'
  expect 'scaling of ranks that share processors' 0 '"ranks": 8,' "$muonp" bench scaling tiny.yaml --ranks 8 --rounds 1 \
    --repeats 1 --json --launcher "$launcher" --share-processors --set data.batch=8
  [[ $output == *"\"processors\": $(nproc | awk '{ print $1 < 8 ? $1 : 8 }').0"* ]] || failed 'processors that 8 ranks share'
  expect 'scaling of what does not run' 1 'ended with status' "$muonp" bench scaling tiny.yaml --ranks 1 --rounds 1 \
    --launcher "$launcher" --set data.train=none.txt
  expect 'scaling of a setting that is none' 1 'parallel.zero' "$muonp" bench scaling tiny.yaml --ranks 1 --rounds 1 \
    --launcher false --compare parallel.zero=1 --compare parallel.zero=7
  [[ $output != *'ended with status'* ]] || failed 'settings are checked before the first is measured'
fi

# --- plan: the largest values that the reference documents give right numbers or one clear message
cat >large.yaml <<'EOF'
run: {steps: 1}
data: {train: none.txt, batch: 16777216, sequence: 1048576}
model: {layers: 2, heads: 64, width: 8192, context: 1048576, vocabulary: 256}
EOF
expect 'plan of a large batch' 1 'a smaller data.micro_batch' "$muonp" plan large.yaml
expect 'plan of a large batch in passes' 0 '16777216 sequences of 1048576' "$muonp" plan large.yaml --set data.micro_batch=1
expect 'plan as JSON' 0 '"peak_bytes"' "$muonp" plan large.yaml --json --set data.micro_batch=1024
[[ $output == *': -'* ]] && failed 'negative numbers in a plan'
expect 'roofline of a large batch' 0 'nothing hidden' "$muonp" plan large.yaml --roofline h100 --set data.micro_batch=1024
for setting in model.layers=1000000 model.width=1e9 model.context=1e18 model.vocabulary=1e18 model.mlp_ratio=1e9; do
  expect "plan $setting" 1 "--set $setting: ${setting%%=*}: " "$muonp" plan large.yaml --set $setting
done
widest='--set data.sequence=1024 --set data.batch=1 --set model.layers=64 --set model.width=131072 --set model.heads=1024'
widest+=' --set model.mlp_ratio=64 --set model.vocabulary=16777216'
expect 'plan of the widest model' 0 '"load"' "$muonp" plan large.yaml --json $widest
[[ $output == *': -'* ]] && failed 'negative numbers in the widest plan'

# --- predictions
cat >planned.yaml <<'EOF'
run: {steps: 1}
data: {train: none.txt, batch: 64, sequence: 64, micro_batch: 2}
model: {layers: 2, heads: 2, width: 128, context: 64, vocabulary: 256}
EOF
expect 'a prediction' 0 'a prediction' "$muonp" plan planned.yaml --ranks 8,16 --cluster "$clusters/h100.yaml"
[[ $output == *'8 ranks'*'16 ranks'* ]] || failed 'no prediction for each number of ranks'
expect 'a prediction as JSON' 0 '"predictions"' "$muonp" plan planned.yaml --ranks 8 --cluster "$clusters/a100.yaml" --best --json
for key in step_seconds bound_by imbalance bytes_sent memory_bytes best; do
  [[ $output == *"\"$key\": "* ]] || failed "a prediction without $key"
done
sed 's/memory_gib: 78/memory_gib: 0.004/' "$clusters/h100.yaml" >little.yaml
expect 'what does not fit' 0 'does not fit; what fits: ' "$muonp" plan planned.yaml --ranks 8 --cluster little.yaml
expect 'ranks that do not fill hosts' 1 '--ranks 12: they do not fill hosts of 8' \
  "$muonp" plan planned.yaml --ranks 12 --cluster "$clusters/h100.yaml"
expect 'ranks that do not share the batch' 1 'data.batch: 64' "$muonp" plan planned.yaml --ranks 128 --cluster "$clusters/h100.yaml"
refuse_numbers --ranks 'an integer in [1, 65536]' 8, 8,0 8,,8 -- plan a.yaml
expect 'no cluster' 1 'none.yaml' "$muonp" plan planned.yaml --cluster none.yaml
expect 'best of nothing' 2 '--cluster' "$muonp" plan planned.yaml --best
expect 'a prediction and a roofline' 2 '--roofline' "$muonp" plan planned.yaml --cluster little.yaml --roofline h100
expect 'plans as one JSON' 1 '--json' "$muonp" plan planned.yaml --json --ranks 1,2
sed 's/device: gpu/device: tpu/' "$clusters/h100.yaml" >bad.yaml
expect 'unknown device' 1 "device: 'tpu' is not a valid value; valid values are cpu, gpu" "$muonp" plan planned.yaml --cluster bad.yaml
sed '/^ *launch_seconds/d; s/memory_bytes_per_second: .*/memory_bytes_per_second: -1/' "$clusters/h100.yaml" >bad.yaml
expect 'a rate that is missing' 1 'rates.0.launch_seconds: missing' "$muonp" plan planned.yaml --cluster bad.yaml
[[ $output == *'memory_bytes_per_second'* ]] || failed 'a negative rate is not named'
expect 'one value' 0 'run.name: x' bash -c "echo run.name: \$('$muonp' config b.yaml --set run.name=x --get run.name)"
expect 'a value that YAML quotes' 0 'is lr=1e-3 a#b: c.' \
  bash -c "echo is \"\$('$muonp' config b.yaml --set 'run.name=lr=1e-3 a#b: c' --get run.name)\"."
expect 'two values' 0 $'runs\nauto' "$muonp" config b.yaml --get run.dir --get checkpoint.resume
expect 'no such value' 1 '--get run.nam: there is no such key' "$muonp" config b.yaml --get run.nam
expect 'a section is no value' 1 '--get run: it is a section' "$muonp" config b.yaml --get run

# --- what is printed does not get lost without a word; where nobody reads, it is not wanted
for command in "config b.yaml" "config --reference" "--help" "--version" "plan b.yaml"; do
  expect "full disk behind the output of $command" 1 'standard output cannot be written: No space left on device' \
    bash -c "'$muonp' $command >/dev/full"
  expect "a reader of $command that goes" 0 'status 0' bash -c "{ '$muonp' $command; echo status \$? >&2; } | true"
done
[ -c /dev/full ] || { echo "FAILED: /dev/full is no device any more"; failures=$((failures + 1)); }

# --- closed descriptors are not taken for files
"$muonp" spectral --in G.npy --out closed.npy --p 1/2 >&- 2>&- <&-
"$muonp" spectral --in G.npy --out Z.npy --p 1/2 >/dev/null
cmp -s closed.npy Z.npy || { echo "FAILED: closed descriptors change what is written"; failures=$((failures + 1)); }

# --- links, pipes
ln -s Z.npy link.npy
expect 'an output that is a link' 0 '' "$muonp" spectral --in G.npy --out link.npy --p 1/2
[[ -L link.npy ]] || { echo "FAILED: the link was replaced"; failures=$((failures + 1)); }
mkfifo fifo
cat fifo >through.npy &
expect 'an output that is a pipe' 0 '' "$muonp" spectral --in G.npy --out fifo --p 1/2
wait $!
[[ -p fifo ]] && cmp -s through.npy Z.npy || { echo "FAILED: the pipe"; failures=$((failures + 1)); }

# --- compare
mkdir one two
for run in one two; do
  for step in 1 2 3; do
    echo "{\"step\":$step,\"loss\":$((5 - step)),\"seconds\":$step,\"tokens\":$((step * 1000))}"
  done >$run/metrics.jsonl
  echo '{"step":3,"val_loss":2.5}' >>$run/metrics.jsonl
done
expect 'compare' 0 '2.5000' "$muonp" compare one two --svg curves.svg
[[ $(head -c 4 curves.svg) == '<svg' ]] || { echo "FAILED: curves.svg"; failures=$((failures + 1)); }
expect 'compare without runs' 2 'RUN is required' "$muonp" compare
expect 'compare nothing' 1 'three: no such' "$muonp" compare one three
mkdir starting waiting diverged damaged
printf '{"st' >starting/metrics.jsonl
printf '{"step":1,"loss":5.5}\n{"step":2,"loss":null,"note":"loss is nan"}\n{"step":2,"val_loss":null}\n' \
  >diverged/metrics.jsonl
printf '{"step":1,"loss":5.5}\n{"step"\n{"step":3,"loss":5.5}\n' >damaged/metrics.jsonl
rows() { "$muonp" compare one starting waiting diverged two --svg rows.svg "$@"; }
for run in 'one *' starting waiting diverged 'two *'; do
  expect "compare shows $run" 0 "| $run" rows
done
expect 'compare says diverged' 0 '| diverged |     2 |     not finite |' rows
expect 'compare says what came before' 0 '| diverged |     2 | not finite |    5.5000 |' rows --metric loss
rows >out.txt && grep -q 'not finite' rows.svg && grep -q 'no value yet' rows.svg && ! grep -q nan rows.svg ||
  { echo "FAILED: rows.svg"; failures=$((failures + 1)); }
expect 'compare goes on past a damaged run' 1 '| two *' "$muonp" compare one damaged two
expect 'compare names the damage' 1 'damaged/metrics.jsonl:2: not a JSON object' "$muonp" compare one damaged two
expect 'compare an unknown metric' 1 "no line has 'accuracy'" "$muonp" compare one --metric accuracy

# --- report, export-metrics
expect 'report' 0 'report: one/report.html' "$muonp" report one
[[ $(head -c 15 one/report.html) == '<!doctype html>' ]] || failed 'one/report.html'
expect 'report of two' 0 'report: both.html' "$muonp" report one two --out both.html
expect 'report without runs' 2 'RUN is required' "$muonp" report
expect 'report of nothing' 1 'three: no such file' "$muonp" report one three --out none.html
[[ ! -e none.html ]] || failed 'a report of a run that is missing'
expect 'report names the damage' 1 'damaged/metrics.jsonl:2: not a JSON object' "$muonp" report damaged
expect 'export' 0 'metrics.csv: 3 steps, 5 columns' "$muonp" export-metrics one --csv metrics.csv
[[ $(tail -n 1 metrics.csv) == '3,2,3,3000,2.5' ]] || failed 'metrics.csv'
expect 'export in no format' 2 'a format is needed: --csv FILE, --tensorboard DIR, or both' "$muonp" export-metrics one

# --- under mpirun: one message for all ranks
if [[ -n $mpirun ]]; then
  "$mpirun" --oversubscribe --bind-to none -np 3 "$muonp" train a.yaml >out.txt 2>&1 </dev/null
  status=$?
  count=$(grep -c 'unknown key' out.txt)
  if [[ $status -eq 0 || $count -ne 1 ]]; then
    echo "FAILED: an error on all ranks: status $status, printed $count times"
    cat out.txt
    failures=$((failures + 1))
  fi
  expect 'one process only' 1 'this command runs in one process' \
    "$mpirun" --oversubscribe --bind-to none -np 2 "$muonp" spectral --in G.npy --out Z.npy --p 1/2
fi

echo "$failures failures"
[[ $failures -eq 0 ]]
