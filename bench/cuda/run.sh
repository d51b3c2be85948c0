#!/usr/bin/env bash
# All figures of the card: run.sh BINARY IDS FOLDER, with BINARY this program,
# IDS its input and FOLDER room for checkpoints. It needs Python with PyTorch
# and transformers.
set -uo pipefail
binary=$1 ids=$2 folder=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
few="$folder/few.jsonl"
head -n 6 "$ids" >"$few"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
for kind in qwen2 llama qwen3; do
  m="$folder/$kind"
  echo "== $kind"
  python3 "$here/peer.py" make "$m" $kind small && python3 "$here/peer.py" states "$m" "$few" "$m.f32" f32 &&
    python3 "$here/peer.py" states "$m" "$few" "$m.bf16" bf16 && python3 "$here/peer.py" compare "$m.bf16" "$m.f32"
  for p in f32 bf16 f16; do
    "$binary" -model "$m" -ids "$few" -precision $p -compare "$m.f32"
    "$binary" -model "$m" -ids "$few" -precision $p -compare "$m.f32" -own
  done
done 2>&1 | grep -v Warning
echo "== products"
"$binary" -gemm
for shape in ${SHAPES:-1.5b}; do
  m="$folder/$shape"
  echo "== $shape"
  python3 "$here/peer.py" make "$m" qwen2 "$shape"
  "$binary" -model "$m" -ids "$ids" -repeat 3
  "$binary" -model "$m" -ids "$ids" -repeat 2 -own
  python3 "$here/peer.py" speed "$m" "$ids" 12
  "$binary" -model "$m" -ids "$ids" -repeat 2
  rm -rf "$m"
done 2>&1 | grep -v Warning
