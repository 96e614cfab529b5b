#!/usr/bin/env bash
# Pretrained encoders side by side: wav2vec2, HuBERT, WavLM, Whisper and an ESPnet recogniser, on the same utterances,
# trials and noise: speakers and intelligibility of rebuilt speech, CKA between models, phones and speakers by layer.
#   ./run.sh                                                  encoders and LibriSpeech from the Hub, one GPU
#   ./run.sh --encoders "facebook/hubert-base-ls960 my/exp" --data /corpora/LibriSpeech --noise /corpora/musan
#   ./run.sh --size tiny --encoders "blstm-robust" --train-set espeak:train --test-set espeak:test --noise generated \
#     --device cpu                                            every stage in seconds, to see that it works
# Stop it at any moment and give the same command again: it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")"

stage=1
stop_stage=6
encoders="facebook/wav2vec2-base facebook/hubert-base-ls960 microsoft/wavlm-base openai/whisper-small vgg-blstm-robust"
exp=exp                 # everything that is made goes here
data=hub                # "hub", or the folder that holds train-clean-100 and test-clean
train_set=              # other names for the two sets, as hfprobe's --dataset takes them
test_set=
noise=musan             # "musan" (in the data folder, or the Hub's copy), MUSAN's folder, or "generated"
alignments=             # TextGrids (MFA) or phones.ctm of the training set; LibriSpeech itself has no phones
targets=                # of phone, speaker, gender; empty: speaker, and phone where alignments are given
verifier=ge2e           # or thinresnet:weights.h5, ecapa, ...
size=full               # full, small or tiny: conf/size_*.sh set what is empty below
probe_steps=
probe_dim=
probe_batch=
probe_frames=
speakers=
per_speaker=
snr=
iterations=
quality=
frames=
replicates=
measures=
utterances=
class_steps=
device=auto
python=${PYTHON:-python}
. ../../utils/parse_options.sh
. ../../utils/steps.sh
[ -f "conf/size_$size.sh" ] || { echo "$0: --size $size is not known; choose full, small or tiny" >&2; exit 2; }
. "conf/size_$size.sh"

where=librispeech:$([ "$data" = hub ] || echo "$data/")
train_set=${train_set:-${where}clean/train.100}
test_set=${test_set:-${where}clean/test}
hfprobe="$python -m hfprobe"
# name_of ENCODER: its folder below exp; the whole id counts, because two users may have an encoder of one name
name_of() { local name=${1#/}; name=${name//[^A-Za-z0-9._-]/--}; echo "${name//../__}"; }
[ -n "$targets" ] || targets="speaker${alignments:+ phone}"
given=()
for encoder in $encoders; do given+=(--encoder "$encoder"); done
[ ${#given[@]} -gt 0 ] || { echo "$0: --encoders is empty; name at least one" >&2; exit 2; }

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  echo "Stage 1: encoders and their layers"
  mkdir -p "$exp/layers"
  for encoder in $encoders; do
    file=$exp/layers/$(name_of "$encoder").txt
    fresh "$file" || { $hfprobe encoders "$encoder" > "$file.new" && mv "$file.new" "$file"; }
    cat "$file"
  done
  took 1
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  echo "Stage 2: probes, all layers of an encoder in one pass"
  for encoder in $encoders; do
    need "$exp/layers/$(name_of "$encoder").txt" 1
    bank=$exp/banks/$(name_of "$encoder")
    fresh "$bank/bank.json" ||
      $hfprobe train --config conf/probes.yaml --encoder "$encoder" --dataset "$train_set" --noise "$noise" \
        --steps "$probe_steps" --hidden-dim "$probe_dim" --batch-size "$probe_batch" \
        --frames-per-batch "$probe_frames" --device "$device" --output "$bank"
  done
  took 2
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  echo "Stage 3: Table 2 and STOI: the same utterances, trials and noise for all"
  pairs=() banks=()
  for encoder in $encoders; do
    bank=$exp/banks/$(name_of "$encoder")
    need "$bank/bank.json" 2
    pairs+=(--encoder "$encoder" --probes "$bank") banks+=("$bank/bank.json")
  done
  # shellcheck disable=SC2086
  fresh "$exp/evaluation/results.json" "${banks[@]}" ||
    $hfprobe evaluate "${pairs[@]}" --dataset "$test_set" --noise "$noise" --snr $snr --verifier "$verifier" \
      --quality $quality --speakers "$speakers" --per-speaker "$per_speaker" --trials all \
      --iterations "$iterations" --device "$device" --output "$exp/evaluation"
  took 3
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  echo "Stage 4: CKA of all layers of all encoders with one another"
  # shellcheck disable=SC2086
  fresh "$exp/similarity/results.json" ||
    $hfprobe similarity "${given[@]}" --dataset "$test_set" --measures $measures --speakers "$speakers" \
      --per-speaker "$per_speaker" --frames "$frames" --replicates "$replicates" --device "$device" \
      --output "$exp/similarity"
  took 4
fi

if [ $stage -le 5 ] && [ $stop_stage -ge 5 ]; then
  echo "Stage 5: $targets by layer"
  case " $targets " in *" phone "*) ;; *) echo "phones are left out: give --alignments, or --targets phone for a corpus that has them" ;; esac
  for target in $targets; do
    fresh "$exp/knows/$target/results.json" ||
      $hfprobe classify "${given[@]}" --dataset "$train_set" --target "$target" --limit "$utterances" \
        --steps "$class_steps" ${alignments:+--alignments "$alignments"} --device "$device" \
        --output "$exp/knows/$target"
  done
  took 5
fi

if [ $stage -le 6 ] && [ $stop_stage -ge 6 ]; then
  echo "Stage 6: everything by relative depth, and one page"
  runs=("$exp/evaluation")
  for target in $targets; do runs+=("$exp/knows/$target"); done
  need "$exp/evaluation/results.json" 3
  need "$exp/similarity/results.json" 4
  for run in "${runs[@]:1}"; do need "$run/results.json" 5; done
  $python local/by_depth.py "${runs[@]}" --output "$exp/depth"
  $hfprobe report "${runs[@]}" "$exp/similarity" --title "What pretrained encoders carry, layer by layer" \
    --output "$exp/report"
  took 6
fi
