#!/usr/bin/env bash
# Recognisers to probe: VGG-BLSTM and BLSTM, CTC on characters, each trained on clean ("baseline") and on noisy
# ("robust") speech by ESPnet's own trainer, then their probes and the paper's measures.
#   ./run.sh                                all stages
#   ./run.sh --stage 3 --stop-stage 4       only training
#   ./run.sh --archs blstm                  only one architecture
set -euo pipefail
cd "$(dirname "$0")"

stage=1
stop_stage=9
archs="blstm vgg_blstm" # of blstm, vgg_blstm, transformer
exp=exp                 # everything that is made goes here
train_set=speechocean762:train
test_set=speechocean762:test
noise=local             # MUSAN or a folder in its layout; "local": the data folder's noise; "generated"
probe_steps=1400        # optimiser steps per bank
speakers=20             # test speakers of stage 7
per_speaker=4
utterances=600          # utterances of the training set that stage 9 classifies
aligner=vgg-blstm-baseline # recogniser that tells stage 9 when words and phones are spoken
specaug=false           # true: SpecAugment in stages 3 and 4
speeds=                 # e.g. "0.9 1.0 1.1": speed perturbation in stages 3 and 4
upper_epochs="45 60"    # afterwards train the BLSTMs of vgg_blstm alone, on stored cnn4: epochs of each cycle (0: not)
bfloat16=auto           # in these epochs, multiply in bfloat16: true, false, or where the CPU can by itself
language_model=false    # true: stage 8 trains one on the transcripts and reads all again with it
history=0               # keep the weights at so many points of every training (*step.pth)
train_options=          # ESPnet options that win over those of local/schedule.sh, e.g. "--max_epoch 1"
ngpu=0
python=${PYTHON:-python}
. ../../utils/parse_options.sh
. ../../utils/steps.sh
. local/schedule.sh

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
name_of() { echo "${1//_/-}-$2"; }

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  echo "Stage 1: data check"
  configs=()
  for arch in $archs; do configs+=("conf/train_$arch.yaml"); done
  $python -m hfprobe.asr.check_data --train "$train_set" --test "$test_set" --noise "$noise" --recogniser "${configs[@]}"
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  echo "Stage 2: feature statistics"
  [ -f "$exp/feats_stats.npz" ] || $python -m hfprobe.asr.stats --output "$exp/feats_stats.npz" --batches 60 \
    --corpus "$train_set" "spoken:$train_set@0.5" --noise "$noise"
fi

# train ARCH NAME NOISE [ESPnet options]: resumes if it was interrupted
train() {
  local arch=$1 name=$2 noise=$3 augment=(); shift 3
  need "$exp/feats_stats.npz" 2
  [ "$specaug" = false ] || augment+=(--specaug delta)
  # shellcheck disable=SC2206
  [ -z "$speeds" ] || augment+=(--hf_speeds $speeds)
  # shellcheck disable=SC2086
  $python -m hfprobe.asr.train --config "conf/train_$arch.yaml" --ngpu "$ngpu" --output_dir "$exp/$name" \
    --normalize_conf "stats_file=$exp/feats_stats.npz" --hf_valid "$test_set" --hf_noise "$noise" --resume true \
    --hf_history "$history" "${augment[@]}" "$@" $train_options
}

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  echo "Stage 3: common start on clean real and synthetic speech, short utterances first"
  teacher_weights=$($python -c "from hfprobe.encoders.auto import shipped_folder
print(*(shipped_folder() / '$teacher').glob('*.pth'))")
  for arch in $archs; do
    previous=
    for phase in $(phases_of "$arch"); do
      options=$(start_options "$arch" "$phase" "$train_set" "$teacher_weights")
      # shellcheck disable=SC2086
      train "$arch" "${arch}_start$phase" none $options ${previous:+--init_param "$exp/$previous/latest.pth"}
      previous=${arch}_start$phase
    done
  done
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  echo "Stage 4: baseline (clean) and robust (noise added on the fly)"
  for arch in $archs; do
    last=$(phases_of "$arch" | tr ' ' '\n' | tail -n 1)
    end=$(cycles_of "$arch" | tr ' ' '\n' | tail -n 1)
    for kind in baseline robust; do
      previous=${arch}_start$last
      for cycle in $(cycles_of "$arch"); do
        options=$(cycle_options "$arch" "$kind" "$cycle" "$train_set")
        name=${arch}_$kind$([ "$cycle" = "$end" ] || echo "_cycle$cycle")
        need "$exp/$previous/latest.pth" 3
        # shellcheck disable=SC2086
        train "$arch" "$name" "$([ $kind = robust ] && echo "$noise" || echo none)" $options \
          --init_param "$exp/$previous/latest.pth"
        previous=$name
      done
    done
  done
fi

# trained_by ARCH KIND: the folder that stage 4 ends with
trained_by() { echo "$exp/$1_$2$([ "$1" != vgg_blstm ] || [ "$upper_epochs" = 0 ] || echo _upper)"; }

# upper KIND: BLSTMs and CTC of the VGG-BLSTM on what its convolutions say of the training set, stored once
upper() {
  local kind=$1 trained=$exp/vgg_blstm_$1/latest.pth lower=$exp/lower/vgg-blstm-$1
  local states=() init pass=0 cycle=0 work speed epochs steps options
  need "$trained" 4
  fresh "$lower/config.yaml" "$trained" || $python -m hfprobe.asr.ship "$exp/vgg_blstm_$kind" "$lower"
  init=("$trained:encoder.enc.1:encoder.enc.0" "$trained:ctc:ctc")
  for epochs in $upper_epochs; do
    cycle=$((cycle + 1)) work=$exp/vgg_blstm_${kind}_states$cycle
    # Another cycle hears other noise; without noise nothing would be new.
    [ $cycle -gt 1 ] && [ "$kind" = baseline ] || states=()
    for speed in $([ ${#states[@]} -gt 0 ] || upper_speeds "$kind" $cycle); do
      states+=("$exp/states/$kind.$pass")
      fresh "$exp/states/$kind.$pass/index.json" "$lower/config.yaml" ||
        $python -m hfprobe.asr.states --encoder "$lower" --layer cnn4 --corpus "$train_set" --epoch "$pass" \
          --speed "$speed" --bfloat16 "$bfloat16" --noise "$([ "$kind" = robust ] && echo "$noise" || echo none)" \
          --output "$exp/states/$kind.$pass"
      pass=$((pass + 1))
    done
    steps=$($python local/steps.py conf/train_upper.yaml "${states[@]}")
    options=$(upper_options $((steps * epochs)) $cycle)
    # shellcheck disable=SC2086
    $python -m hfprobe.asr.train --config conf/train_upper.yaml --ngpu "$ngpu" --resume true --output_dir "$work" \
      --hf_states "${states[@]}" --hf_bfloat16 "$bfloat16" --max_epoch "$epochs" $options $train_options \
      --init_param "${init[@]}"
    init=("$work/latest.pth")
  done
  $python -m hfprobe.asr.join "$lower" "$work" "$(trained_by vgg_blstm "$kind")"
}

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ] && [ "$upper_epochs" != 0 ] && [[ " $archs " == *" vgg_blstm "* ]]; then
  echo "Stage 4, on top: BLSTMs alone, on stored states"
  for kind in baseline robust; do upper $kind; done
fi

if [ $stage -le 5 ] && [ $stop_stage -ge 5 ]; then
  echo "Stage 5: encoders to ship"
  for arch in $archs; do
    for kind in baseline robust; do
      need "$(trained_by "$arch" $kind)/latest.pth" 4
      $python -m hfprobe.asr.ship "$(trained_by "$arch" $kind)" "$exp/encoders/$(name_of "$arch" $kind)"
    done
  done
fi

if [ $stage -le 6 ] && [ $stop_stage -ge 6 ]; then
  echo "Stage 6: probes, all layers of an encoder in one pass, and of its twin with random weights"
  for arch in $archs; do
    for kind in baseline robust; do
      name=$(name_of "$arch" $kind)
      # Both kinds are of one shape, so that one twin is the floor of both.
      floor=$([ $kind = robust ] && echo --random-floor || true)
      hfprobe train --config conf/probes.yaml --encoder "$exp/encoders/$name" --dataset "$train_set" \
        --noise "$noise" --steps "$probe_steps" $floor --output "$exp/banks/$name"
    done
  done
fi

if [ $stage -le 7 ] && [ $stop_stage -ge 7 ]; then
  echo "Stage 7: speakers, intelligibility and words by layer and condition"
  for arch in $archs; do
    b=$(name_of "$arch" baseline) r=$(name_of "$arch" robust)
    hfprobe evaluate --encoder "$exp/encoders/$r" --probes "$exp/banks/$r" --encoder "$exp/encoders/$b" \
      --probes "$exp/banks/$b" --dataset "$test_set" --noise "$noise" --snr clean 20 10 0 \
      --speakers "$speakers" --per-speaker "$per_speaker" --trials all --wer --quality stoi pesq \
      --output "$exp/evaluation/$arch"
  done
fi

if [ $stage -le 8 ] && [ $stop_stage -ge 8 ]; then
  echo "Stage 8: error rates of the recognisers on the whole test set"
  encoders=()
  for arch in $archs; do
    for kind in robust baseline; do encoders+=("$exp/encoders/$(name_of "$arch" $kind)"); done
  done
  again=()
  if [ "$language_model" = true ]; then
    $python -m hfprobe.asr.train_lm --config conf/train_lm.yaml --corpus "$train_set" --ngpu "$ngpu" --resume true \
      --output_dir "$exp/lm_training"
    $python -m hfprobe.asr.ship "$exp/lm_training" "$exp/lm" --weights valid.loss.best.pth
    again=(--lm "$exp/lm")
  fi
  $python local/error_rates.py --dataset "$test_set" --noise "$noise" --output "$exp/error_rates" "${again[@]}" \
    "${encoders[@]}"
fi

if [ $stage -le 9 ] && [ $stop_stage -ge 9 ]; then
  echo "Stage 9: what layers know, how invariant and how untangled they are; all results on one page"
  for arch in $archs; do
    b="$exp/encoders/$(name_of "$arch" baseline)" r="$exp/encoders/$(name_of "$arch" robust)" knows="$exp/knows/$arch"
    pair=(--encoder "$r" --encoder "$b")
    for target in phone speaker gender noise snr; do
      mdl=$([ $target = phone ] && [ "$arch" = blstm ] && echo --mdl || true)  # wide layers take long
      hfprobe classify "${pair[@]}" --encoder "random:$r" --aligner "$aligner" --dataset "$train_set" --noise "$noise" \
        --target $target --limit "$utterances" $mdl --output "$knows/$target"
    done
    hfprobe invariance "${pair[@]}" --probes "$exp/banks/$(name_of "$arch" robust)" \
      --probes "$exp/banks/$(name_of "$arch" baseline)" --dataset "$test_set" --noise "$noise" \
      --snr 20 10 0 --speakers "$speakers" --per-speaker "$per_speaker" --output "$knows/invariance"
    for by in word phone speaker; do
      points=$([ $by = speaker ] && echo 10 || echo 20)  # a test speaker has ten utterances
      hfprobe untangle "${pair[@]}" --encoder "random:$r" --aligner "$aligner" --dataset "$test_set" --by $by \
        --classes 20 --points "$points" --output "$knows/by_$by"
    done
    hfprobe report "$exp/evaluation/$arch" "$knows"/{phone,speaker,gender,noise,snr,invariance} \
      "$knows"/by_{word,phone,speaker} --output "$exp/report/$arch"
  done
fi
