#!/usr/bin/env bash
# Kernels that memory bounds move 16 bytes at a time: looked up in the machine code for sm_90 that nvcc made.
#   sass_test.sh PROGRAM_OR_OBJECT...       (CUOBJDUMP=... where cuobjdump is in none of the usual places)
# Ends with 77 where cuobjdump is missing (CUDA Toolkit; PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm).
#
# All kernels over packs of elements and of columns have to (core/device/cuda/pack.h), whatever they compute, and those of
# symmetric forms where rows lie as that wants it (core/device/cuda/symmetric.cpp) and of attention, whose loads go to shared
# memory past the registers (core/device/cuda/flash_attention.cpp), and whose products are the tensor cores' in bfloat16 and
# never in float32, where shared memory is read by 16 bytes; of the kernels of rows those in the list
# below, which says of each whether it loads (L) and stores (S) 16 bytes: a row that is loaded as float32 and stored in 16 bits
# is stored by 8. Elements that are out of place are moved one by one, by the same kernel or another one, so narrow accesses are
# there too and not counted.
set -euo pipefail
tool=${CUOBJDUMP:-$(command -v cuobjdump || ls /usr/local/cuda/bin/cuobjdump 2>/dev/null || true)}
[ -n "$tool" ] || { echo "cuobjdump is not here: the width of kernels' accesses was not looked at"; exit 77; }
[ $# -gt 0 ] || { echo "sass_test.sh: no program was given" >&2; exit 1; }

wanted='
ops::Normalise LS           ops::InputGradient LS      ops::NormaliseHead LS      ops::HeadInputGradient LS
ops::Swiglu LS              ops::SwigluGradient LS     AddBias LS                 ops::RowLosses L
ops::LogitGradients L       ops::Lookup LS             ops::AddByPosition LS      ops::AddChunk LS
ops::Turn L                 cuda::Store LS             cuda::RepeatHeads LS      optim::spectral::RowSquares L
optim::spectral::CopyBy L   optim::spectral::MultiplyBy L  cuda::RowDots L
'
for file; do "$tool" -sass -arch sm_90 "$file"; done | c++filt | awk -v wanted="$wanted" '
  function known(where,   i) {  # the kernel of the list that this is
    for (i in flags) if (index(where, "row_kernel<muonp::" i "<") || index(where, "row_kernel<muonp::core::" i "<") ||
                         index(where, "row_kernel<muonp::" i ">") || index(where, "row_kernel<muonp::core::" i ">")) return i
    return ""
  }
  function judge(   name) {
    if (kernel == "") return
    ++kernels
    if (kernel ~ /pack_kernel</ || (kernel ~ /column_chunks_kernel</ && kernel !~ /column_chunks_kernel<1,/)) {
      ++packed
      if (loads + stores == 0) { print "no access of 16 bytes: " kernel; ++failed }
      return
    }
    if (kernel ~ /form_kernel<true,/) {
      ++forms
      if (loads == 0 || stores == 0) { print "not loads and stores of 16 bytes: " kernel; ++failed }
      return
    }
    if (kernel ~ /(forward|backward)_kernel<muonp::core::bfloat16, /) {
      ++attention
      if (copies == 0 || stores == 0 || products == 0) {
        print "not copies and stores of 16 bytes and products of the tensor cores: " kernel; ++failed
      }
      return
    }
    if (kernel ~ /(forward|backward)_kernel<float, /) {
      ++attention
      if (copies == 0 || stores == 0 || shared == 0 || any_product > 0) {
        print "not copies, stores and reads of 16 bytes, or products of the tensor cores: " kernel; ++failed
      }
      return
    }
    name = known(kernel)
    if (name == "") return
    seen[name] = 1
    if (flags[name] ~ /L/ && loads == 0) { print "no load of 16 bytes: " kernel; ++failed }
    if (flags[name] ~ /S/ && stores == 0) { print "no store of 16 bytes: " kernel; ++failed }
  }
  BEGIN { n = split(wanted, word); for (i = 1; i < n; i += 2) flags[word[i]] = word[i + 1] }
  /Function : / {
    judge()
    kernel = $0; sub(/.*Function : /, "", kernel); gsub(/\(anonymous namespace\)::/, "", kernel)
    loads = stores = copies = products = shared = any_product = 0
  }
  /LDG\.E[.A-Z]*\.128/ { ++loads }
  /STG\.E[.A-Z]*\.128/ { ++stores }
  /LDGSTS\.E[.A-Z]*\.128/ { ++copies }
  /HMMA\.16816\.F32\.BF16/ { ++products }
  /HMMA|GMMA/ { ++any_product }
  /LDS[.A-Z]*\.128/ { ++shared }
  END {
    judge()
    for (i in flags) if (!seen[i]) { print "no kernel of rows is called " i; ++failed }
    if (forms < 5) { print forms + 0 " kernels of symmetric forms, where 5 are known"; ++failed }
    if (attention != 18) { print attention + 0 " kernels of attention, where 18 are known"; ++failed }
    if (packed < 20) { print packed + 0 " kernels over packs, where at least 20 are known"; ++failed }
    print kernels " kernels, " packed " over packs, " n / 2 " by name: " failed + 0 " move their data in less than 16 bytes"
    exit failed > 0
  }'
