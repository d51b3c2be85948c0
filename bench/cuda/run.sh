#!/usr/bin/env bash
# All figures of docs/gpu.md: run.sh BINARY IDS FOLDER, with BINARY this program
# (go build -tags cuda ./bench/cuda), IDS the shards of a study's sentences, one
# after the other, and FOLDER room for checkpoints, 20 GB. It needs Python with PyTorch and
# transformers. SHAPES names the shapes to run, of 1.5b, 8b and 70b.
set -uo pipefail
binary=$1 ids=$2 folder=$3
shapes=${SHAPES:-1.5b 8b 70b}
peer="$(cd "$(dirname "$0")" && pwd)/peer.py"
export TQDM_DISABLE=1
mkdir -p "$folder"
few="$folder/few.jsonl"
head -n 6 "$ids" >"$few"
step() { printf '== %s (%ds)\n' "$*" "$SECONDS"; }
family() { if [ "$1" = 1.5b ]; then echo qwen2; else echo llama; fi; }

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
step "checkpoints, and errors of transformers in bf16: qwen2, llama, qwen3"
what=()
for kind in qwen2 llama qwen3; do
  m="$folder/$kind"
  what+=(make "$m" $kind small + states "$m" "$few" "$m.f32" f32 + states "$m" "$few" "$m.bf16" bf16 + compare "$m.bf16" "$m.f32" +)
  what+=(make "$m.outliers" $kind outliers +)
done
for shape in $shapes; do what+=(make "$folder/$shape" "$(family $shape)" $shape +); done
python3 "$peer" "${what[@]::${#what[@]}-1}"

for shape in $shapes; do
  m="$folder/$shape"
  step "$shape"
  if [ $shape = 70b ]; then # more than the card may take
    "$binary" -model "$m" -ids "$ids" -n 100 -layer 3 -memory 16000000000 &
    while kill -0 $! 2>/dev/null; do nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits; sleep 0.5; done | sort -n | tail -n 1
    "$binary" -model "$m" -ids "$ids" -n 100 -layer 3
    continue
  fi
  "$binary" -model "$m" -ids "$ids" -repeat 3
  sizes=
  [ $shape = 1.5b ] || sizes="32768 131072"
  python3 "$peer" speed "$m" "$ids" 12 $sizes
  "$binary" -model "$m" -ids "$ids" -repeat 2
  "$binary" -model "$m" -ids "$ids" -repeat 2 -own
  "$binary" -model "$m" -ids "$ids" -timed
  "$binary" -model "$m" -ids "$few" # the same bits alone
  "$binary" -model "$m" -ids "$ids" -precision int8
  "$binary" -model "$m" -ids "$few" -precision int8 # the same here
done

step "products"
"$binary" -gemm

step "errors"
for kind in qwen2 llama qwen3; do
  m="$folder/$kind"
  for p in f32 bf16 f16; do
    for kernels in "" -own "-own -old"; do
      "$binary" -model "$m" -ids "$few" -precision $p -compare "$m.f32" $kernels
    done
  done
  "$binary" -model "$m" -ids "$few" -precision int8 -compare "$m.f32"
  for p in f32 int8; do # beside what the processor makes of the same rounding
    "$binary" -model "$m.outliers" -ids "$few" -n 2 -precision $p -compare processor
  done
done

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "$tool"
    for kernels in -own "-own -old" "-precision int8"; do
      compute-sanitizer --tool $tool "$binary" -model "$folder/qwen3.outliers" -ids "$few" -n 2 -layer 0 $kernels
    done
  done
fi
step "done"
