#!/usr/bin/env bash
# Do layers of CNN, LSTM and Transformer recognisers correlate as "Insights on Neural Representations for End-to-End
# Speech Recognition" (arXiv 2205.09456) says? Three recognisers with all their checkpoints, compared along training.
#   ./run.sh                                     trains all three, then compares and checks
#   ./run.sh --stage 3 --blstm DIR --vgg-blstm DIR --transformer DIR    takes experiment folders with their checkpoints
#   ./run.sh --archs "blstm transformer"         only these
#   ./run.sh --also "DIR other-encoder"          trained encoders without a history, whose layers are put in order, too
set -euo pipefail
cd "$(dirname "$0")"

stage=1
stop_stage=4
archs="vgg_blstm blstm transformer"
blstm=                  # experiment folders to take instead of training
vgg_blstm=
transformer=
also="vgg-blstm-baseline blstm-baseline"  # trained to their end, without a history: for what is said of the end
exp=exp                 # everything that is made goes here
train_set=speechocean762:train
test_set=speechocean762:test
epochs=12
iters=150               # optimiser steps in an epoch
history=10              # checkpoints, evenly spaced on a logarithmic axis of steps
speakers=40             # test speakers that the layers are compared on
per_speaker=5
wide_frames=3           # frames of each utterance for the VGG-BLSTM, whose convolutions have 5,120 and 2,560 features
replicates=200          # draws of speakers for the intervals
batches=60              # batches for the feature statistics
ngpu=0
python=${PYTHON:-python}
. ../../utils/parse_options.sh
. ../../utils/steps.sh

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
folder_of() { local given=${!1}; echo "${given:-$exp/$1}"; }
# warm_up ARCH: the Transformer needs a rate that rises slowly
warm_up() { [ "$1" != transformer ] || echo "--scheduler warmuplr --scheduler_conf warmup_steps=400"; }
# layers_of ARCH: the Transformer's two convolutions are 17,136 and 8,496 wide, too wide for moments, and no claim is
# about them
layers_of() { [ "$1" != transformer ] || echo --layers transformer{1..8}; }
# frames_of ARCH: with fewer frames than features, moments are decomposed in the span of the frames, in seconds
frames_of() { case $(basename "$1") in vgg*) echo "--frames $wide_frames" ;; esac; }
# steps_of FOLDER: the history that stage 2 keeps, or nothing for a folder that has whole epochs only
steps_of() { ! compgen -G "$1/*step.pth" > /dev/null || echo '*step.pth'; }

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  echo "Stage 1: feature statistics"
  [ -f "$exp/feats_stats.npz" ] || $python -m hfprobe.asr.stats --output "$exp/feats_stats.npz" --batches "$batches" \
    --corpus "$train_set" "spoken:$train_set@0.5" --noise none
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  echo "Stage 2: training, with its history"
  for arch in $archs; do
    [ -z "${!arch}" ] || continue
    need "$exp/feats_stats.npz" 1
    # shellcheck disable=SC2046
    $python -m hfprobe.asr.train --config "../asr1/conf/train_$arch.yaml" $(warm_up "$arch") --ngpu "$ngpu" \
      --output_dir "$exp/$arch" --normalize_conf "stats_file=$exp/feats_stats.npz" \
      --hf_valid "$test_set" --hf_noise none --resume true \
      --hf_train "spoken:80-95:$train_set@0.4" "$train_set@0.6" --hf_max_seconds 6.0 --seed 1 \
      --max_epoch "$epochs" --num_iters_per_epoch "$iters" --hf_history "$history"
  done
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  echo "Stage 3: all layers against all layers, and each checkpoint against the last"
  for arch in $archs; do
    folder=$(folder_of "$arch")
    need "$folder/config.yaml" 2
    set -f  # the pattern is for hfprobe
    # shellcheck disable=SC2046
    $python -m hfprobe similarity --config conf/similarity.yaml --encoder "$folder" --checkpoints $(steps_of "$folder") \
      $(layers_of "$arch") $(frames_of "$arch") --replicates "$replicates" \
      --dataset "$test_set" --speakers "$speakers" --per-speaker "$per_speaker" --output "$exp/similarity/$arch"
    set +f
  done
  for encoder in $also; do
    # shellcheck disable=SC2046
    $python -m hfprobe similarity --config conf/similarity.yaml --encoder "$encoder" $(frames_of "$encoder") \
      --replicates "$replicates" --dataset "$test_set" --speakers "$speakers" --per-speaker "$per_speaker" \
      --output "$exp/similarity/$(basename "$encoder")"
  done
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  echo "Stage 4: the three claims, each with a statistic and an interval"
  found=()
  for arch in $archs $also; do
    arch=$(basename "$arch")
    need "$exp/similarity/$arch/similarity.csv" 3
    found+=("$arch=$exp/similarity/$arch")
  done
  $python local/claims.py "${found[@]}" --output "$exp/claims"
fi
