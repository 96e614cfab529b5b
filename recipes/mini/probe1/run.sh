#!/usr/bin/env bash
# The whole path in minutes, offline and without a corpus: probes for two shipped recognisers, trained on speech that
# espeak-ng makes, then speaker verification and intelligibility by layer.
#   ./run.sh                                all stages
#   ./run.sh --stage 2 --stop-stage 2       only the evaluation
#   ./run.sh --encoders blstm-robust        only one recogniser
set -euo pipefail
cd "$(dirname "$0")"

stage=1
stop_stage=3
encoders="blstm-robust blstm-baseline"
exp=exp                 # everything that is made goes here
train_set=espeak:train
test_set=espeak:test    # other voices and other sentences
noise=generated
steps=60
python=${PYTHON:-python}
. ../../utils/parse_options.sh

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  echo "Stage 1: probes, all layers of an encoder in one pass"
  for name in $encoders; do
    $python -m hfprobe train --config conf/probes.yaml --encoder "$name" --dataset "$train_set" --noise "$noise" \
      --steps "$steps" --output "$exp/banks/$name"
  done
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  echo "Stage 2: speaker verification and intelligibility by layer and condition"
  pairs=()
  for name in $encoders; do pairs+=(--encoder "$name" --probes "$exp/banks/$name"); done
  $python -m hfprobe evaluate --config conf/evaluate.yaml "${pairs[@]}" --dataset "$test_set" --noise "$noise" \
    --output "$exp/evaluation"
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  echo "Stage 3: results"
  [ -s "$exp/evaluation/results.json" ] || { echo "$0: no results in $exp/evaluation; run stage 2" >&2; exit 1; }
  cat "$exp/evaluation/results.md"
fi
