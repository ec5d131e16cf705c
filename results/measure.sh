#!/bin/sh
# Everything under results/ that was measured on a GPU, made anew: sh results/measure.sh DIR
# Nearly three hours on an H200; DEVICES=0,1,2,3 shares it among GPUs. Stop it when you like: the same command goes on from there.
set -eu
out=${1:?name a folder for the results}
run() { folder=$1; shift; convbench run "$@" ${DEVICES:+--devices "$DEVICES"} --device cuda --quick --quiet --out "$out/$folder" || [ $? -eq 1 ]; }

ours=direct,im2col,fft,winograd,implicit
mkdir -p "$out/selftest"
convbench ceilings > "$out/selftest/ceilings.txt"
convbench selftest --out "$out/selftest" || [ $? -eq 1 ]
for layout in nchw nhwc; do for precision in fp32 tf32 fp16 bf16 fp64; do
  run cudnn yardstick --algorithms cudnn,cudnn-graph --plans 4 --layout $layout --precision $precision
done; done
run families yardstick --algorithms $ours,cudnn,cudnn-graph,torch,jax --plans 4 --workspace-limit 64MiB,none --precision fp32
for precision in fp16 bf16 tf32; do
  run families yardstick --algorithms $ours,cudnn,cudnn-graph --plans 4 --precision $precision
done
run implicit16 yardstick --algorithms implicit,cudnn-graph --plans 4 --precision fp16,bf16 --layout nhwc
for direction in fwd bwd-data bwd-filter; do
  run convnet convnet-benchmarks --algorithms $ours,cudnn,torch --workspace-limit 64MiB,none --directions $direction
done
run resnet50 resnet-50 --batch 32 --algorithms $ours,cudnn,cudnn-graph --plans 4 --workspace-limit 64MiB,none --precision fp32
run resnet50 resnet-50 --batch 32 --algorithms $ours,cudnn,cudnn-graph --plans 4 --precision fp16
run resnet50 resnet-50 --batch 32 --algorithms $ours,cudnn,cudnn-graph --plans 4 --precision fp16 --layout nhwc
run vgg16 vgg-d --batch 32 --algorithms $ours,cudnn --workspace-limit 64MiB,none
run vgg16-fp16 vgg-d --batch 32 --algorithms $ours,cudnn,cudnn-graph --plans 4 --workspace-limit 64MiB,none --precision fp16
run mobilenet mobilenet-v2 --batch 32 --algorithms $ours,cudnn --directions fwd --precision fp32,fp16
run mobilenet mobilenet-v2 --batch 32 --algorithms $ours,cudnn --directions bwd-data,bwd-filter --precision fp32
run grids grid-map grid-filter grid-channels grid-batch --algorithms $ours,cudnn --directions fwd
run one-gpu yardstick --algorithms cudnn --directions fwd,bwd-data
run two-gpus yardstick --algorithms cudnn --directions fwd,bwd-data --devices 0,1
run depthwise n64c256h56k256r3p1g256 n32c96h112k96r3p1g96 --algorithms direct,cudnn --directions fwd --precision fp32,fp16 --layout all
python3 results/copies.py "$out/depthwise/copies.md"
run energy n64c256h28k256r3p1 --algorithms torch --directions fwd --precision fp32,fp16 --energy
ab() { folder=$1; shift; convbench ab "$@" yardstick --device cuda --format markdown --out "$out/ab/$folder" > "$out/ab/$folder.md" || true; }
mkdir -p "$out/ab"
ab winograd cudnn/WINOGRAD_NONFUSED winograd --directions all
ab fft cudnn/FFT fft --directions all
ab fft-tiling cudnn/FFT_TILING fft --directions fwd,bwd-data
ab direct cudnn/IMPLICIT_GEMM direct --directions fwd
ab direct-gradients cudnn/ALGO_0 direct --directions bwd-data,bwd-filter
ab implicit cudnn/IMPLICIT_PRECOMP_GEMM implicit --directions fwd
ab implicit-gradients cudnn/ALGO_1 implicit --directions bwd-data,bwd-filter
ab im2col cudnn/GEMM im2col --directions fwd
ab implicit-fp16 cudnn-graph implicit --directions all --precision fp16 --layout nhwc --plans 4
for tool in memcheck racecheck; do
  for name in direct im2col fft winograd implicit; do
    compute-sanitizer --tool $tool python3 tests/sanitize.py $name > "$out/$tool-$name.log" 2>&1 || true
    tail -n 2 "$out/$tool-$name.log"
  done
done
for name in direct im2col fft winograd implicit cudnn cudnn-graph; do
  convbench verify $name --device cuda --matrix --format markdown > "$out/coverage-$name.md" || [ $? -eq 1 ]
done
python3 tests/gpu_faults.py "$out/faults" > "$out/faults.md" || true
python3 tests/gpu_commands.py > "$out/commands.md" || true
