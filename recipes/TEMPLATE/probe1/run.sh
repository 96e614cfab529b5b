#!/usr/bin/env bash
# A recipe to start one's own: probes for all layers of one encoder, what each layer keeps, and a table. As it is, it
# listens to espeak-ng and needs no corpus. Copy the folder, then change the settings below.
#   ./run.sh                                          all stages
#   ./run.sh --stage 2 --stop-stage 2                 only the evaluation
#   ./run.sh --encoder facebook/wav2vec2-base --train-set audiofolder:/my/train --test-set audiofolder:/my/test
set -euo pipefail
cd "$(dirname "$0")"

stage=1
stop_stage=3
encoder=blstm-robust    # a shipped one, a folder of ESPnet's or transformers', or a name on the Hub
train_set=espeak:train  # as hfprobe's --dataset takes it: librispeech:..., kaldi:DIR, audiofolder:DIR, ...
test_set=espeak:test    # with other speakers
noise=generated         # or a folder in MUSAN's layout
steps=60                # training steps; some thousand for numbers to be relied on
exp=exp                 # everything that is made goes here
python=${PYTHON:-python}
. ../../utils/parse_options.sh
. ../../utils/steps.sh

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  echo "Stage 1: probes, all layers in one pass"
  $python -m hfprobe train --config conf/probes.yaml --encoder "$encoder" --dataset "$train_set" --noise "$noise" \
    --steps "$steps" --output "$exp/bank"
  took 1
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  echo "Stage 2: speaker verification and intelligibility by layer and condition"
  need "$exp/bank/bank.json" 1
  $python -m hfprobe evaluate --config conf/evaluate.yaml --encoder "$encoder" --probes "$exp/bank" \
    --dataset "$test_set" --noise "$noise" --output "$exp/evaluation"
  took 2
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  echo "Stage 3: results"
  need "$exp/evaluation/results.json" 2
  $python local/summary.py "$exp/evaluation/results.json"
  took 3
fi
