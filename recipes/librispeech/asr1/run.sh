#!/usr/bin/env bash
# "What does a network layer hear?" in full: VGG-BLSTM and BLSTM trained with CTC on LibriSpeech train-clean-100, each
# without ("baseline") and with ("robust") MUSAN, then Table 1 (WER), probes, Table 2 and Figures 2 and 4, one page.
#   ./run.sh                                                   LibriSpeech and MUSAN streamed from the Hub, one GPU
#   ./run.sh --data /corpora/LibriSpeech --noise /corpora/musan --ngpu 4
#   ./run.sh --thinresnet weights.h5 --stage 8                 the paper's speaker verifier as well
#   ./run.sh --size tiny --noise generated --ngpu 0 ...        every stage in seconds, to see that it works
# Stop it at any moment and give the same command again: it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")"

stage=1
stop_stage=9
archs="vgg_blstm blstm" # or one of them
exp=exp                 # everything that is made goes here
data=hub                # "hub", or the folder that holds train-clean-100, dev-clean and test-clean
train_set=              # other names for the three sets, as hfprobe's --dataset takes them
dev_set=
test_set=
noise=musan             # "musan" (in the data folder, or the Hub's copy), MUSAN's folder, or "generated"
thinresnet=             # weights.h5 of ThinResNet-34: stage 8 then verifies speakers with it, too
size=full               # or tiny: conf/size_*.sh set what is empty below
hidden=
pieces=
epochs=
iters=
batch=
valid_limit=
workers=
stats_batches=
snr=                    # conditions of stages 6 and 8
wer_per_speaker=
probe_steps=
probe_dim=
probe_batch=
probe_frames=
speakers=
per_speaker=
iterations=
specaug=false           # true: SpecAugment
speeds=                 # e.g. "0.9 1.0 1.1": speed perturbation
history=0               # keep the weights at so many points of training (needs --iters)
check_limit=            # look at so many utterances of each set in stage 1 (empty: all)
ngpu=1                  # 0 trains on the CPU
python=${PYTHON:-python}
. ../../utils/parse_options.sh
. ../../utils/steps.sh
[ -f "conf/size_$size.sh" ] || { echo "$0: --size $size is not known; choose full or tiny" >&2; exit 2; }
. "conf/size_$size.sh"
for arch in $archs; do
  [ -f "conf/train_$arch.yaml" ] || { echo "$0: no architecture $arch; choose from vgg_blstm, blstm" >&2; exit 2; }
done

where=librispeech:$([ "$data" = hub ] || echo "$data/")
train_set=${train_set:-${where}clean/train.100}
dev_set=${dev_set:-${where}clean/validation}
test_set=${test_set:-${where}clean/test}
device=$([ "$ngpu" -gt 0 ] && echo auto || echo cpu)
hfprobe="$python -m hfprobe"
[ "$ngpu" -gt 0 ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
name_of() { echo "${1//_/-}-$2"; }
uses_pieces() { grep -q '^token_type: bpe' "conf/train_$1.yaml"; }
any_pieces() { local arch; for arch in $archs; do ! uses_pieces "$arch" || return 0; done; return 1; }
need_noise() {
  [ -n "$noise" ] || { echo "$0: no noise is given; use --noise with MUSAN's folder (openslr.org/17)" >&2; exit 2; }
}
configs=()
for arch in $archs; do configs+=("conf/train_$arch.yaml"); done

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  echo "Stage 1: data check"
  need_noise
  known=(--write "$exp/data")
  ! fresh "$exp/data/test.tsv" || known=(--read "$exp/data")
  $python -m hfprobe.asr.check_data --train "$train_set" --dev "$dev_set" --test "$test_set" --noise "$noise" \
    --recogniser "${configs[@]}" "${known[@]}" ${check_limit:+--limit "$check_limit"}
  took 1
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  echo "Stage 2: word pieces where frames are too few for characters"
  if any_pieces; then
    need "$exp/data/train.tsv" 1
    fresh "$exp/pieces/tokens.txt" "$exp/data/train.tsv" ||
      $python -m hfprobe.asr.pieces --text "$exp/data/train.tsv" --count "$pieces" --output "$exp/pieces"
    $python -m hfprobe.asr.check_data --read "$exp/data" --recogniser "${configs[@]}" --pieces "$exp/pieces"
  else
    echo "$archs: characters fit, nothing to do"
  fi
  took 2
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  echo "Stage 3: feature statistics, the same for all recognisers"
  need_noise
  need "$exp/data/train.tsv" 1
  fresh "$exp/feats_stats.npz" "$exp/data/train.tsv" ||
    $python -m hfprobe.asr.stats --corpus "$train_set" --noise "$noise" --batches "$stats_batches" \
      --output "$exp/feats_stats.npz"
  took 3
fi

# train ARCH KIND: resumes if it was interrupted
train() {
  local arch=$1 kind=$2 options=()
  if uses_pieces "$arch"; then
    need "$exp/pieces/tokens.txt" 2
    options+=(--token_list "$exp/pieces/tokens.txt" --bpemodel "$exp/pieces/bpe.model")
  fi
  # Packed LSTMs are slow on a CPU only; several GPUs are ESPnet's own processes, one for each.
  [ "$ngpu" -eq 0 ] || options+=(--unpacked_lstm false)
  [ "$ngpu" -le 1 ] || options+=(--multiprocessing_distributed true)
  [ "$specaug" = false ] || options+=(--specaug delta)
  # shellcheck disable=SC2206
  [ -z "$speeds" ] || options+=(--hf_speeds $speeds)
  [ -z "$iters" ] || options+=(--num_iters_per_epoch "$iters")
  $python -m hfprobe.asr.train --config "conf/train_$arch.yaml" --output_dir "$exp/${arch}_$kind" --resume true \
    --ngpu "$ngpu" --normalize_conf "stats_file=$exp/feats_stats.npz" --hf_train "$train_set" --hf_valid "$dev_set" \
    --hf_valid_limit "$valid_limit" --hf_noise "$([ "$kind" = robust ] && echo "$noise" || echo none)" \
    --hf_batch "$batch" --hf_workers "$workers" --hf_history "$history" --max_epoch "$epochs" \
    --encoder_conf "hidden_size=$hidden" --encoder_conf "output_size=$hidden" "${options[@]}"
}

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  echo "Stage 4: recognisers, baseline (clean) and robust (noise added on the fly)"
  need_noise
  need "$exp/feats_stats.npz" 3
  for arch in $archs; do
    for kind in baseline robust; do train "$arch" "$kind"; done
  done
  took 4
fi

if [ $stage -le 5 ] && [ $stop_stage -ge 5 ]; then
  echo "Stage 5: encoders: the mean of the best epochs on dev-clean"
  for arch in $archs; do
    for kind in baseline robust; do
      trained=$exp/${arch}_$kind output=$exp/encoders/$(name_of "$arch" $kind)
      need "$trained/valid.loss.ave.pth" 4
      fresh "$output/config.yaml" "$trained/valid.loss.ave.pth" ||
        $python -m hfprobe.asr.ship "$trained" "$output" --weights valid.loss.ave.pth
    done
  done
  took 5
fi

if [ $stage -le 6 ] && [ $stop_stage -ge 6 ]; then
  echo "Stage 6: Table 1, word error rates of dev-clean and test-clean"
  need_noise
  encoders=()
  for arch in $archs; do
    for kind in baseline robust; do
      need "$exp/encoders/$(name_of "$arch" $kind)/config.yaml" 5
      encoders+=("$exp/encoders/$(name_of "$arch" $kind)")
    done
  done
  # shellcheck disable=SC2086
  $python local/table1.py "${encoders[@]}" --sets "dev-clean=$dev_set" "test-clean=$test_set" --noise "$noise" \
    --snr $snr ${wer_per_speaker:+--per-speaker "$wer_per_speaker"} \
    --device "$([ "$ngpu" -gt 0 ] && echo cuda || echo cpu)" --output "$exp/wer"
  took 6
fi

if [ $stage -le 7 ] && [ $stop_stage -ge 7 ]; then
  echo "Stage 7: probes, all layers of an encoder in one pass; the robust one's with a random-weight floor"
  need_noise
  launch=$hfprobe
  [ "$ngpu" -le 1 ] || launch="$python -m torch.distributed.run --standalone --nproc_per_node $ngpu -m hfprobe"
  for arch in $archs; do
    for kind in baseline robust; do
      name=$(name_of "$arch" $kind)
      need "$exp/encoders/$name/config.yaml" 5
      fresh "$exp/banks/$name/bank.json" "$exp/encoders/$name/config.yaml" ||
        $launch train --config conf/probes.yaml --encoder "$exp/encoders/$name" --dataset "$train_set" \
          --noise "$noise" --steps "$probe_steps" --hidden-dim "$probe_dim" \
          --batch-size $((probe_batch * (ngpu > 1 ? ngpu : 1))) --frames-per-batch "$probe_frames" \
          --device "$device" $([ $kind = baseline ] || echo --random-floor) --output "$exp/banks/$name"
    done
  done
  took 7
fi

verifiers="ge2e${thinresnet:+ thinresnet}"
if [ $stage -le 8 ] && [ $stop_stage -ge 8 ]; then
  echo "Stage 8: Table 2, Figures 2 and 4: speakers, intelligibility and words by layer, clean and noisy"
  need_noise
  [ -z "$thinresnet" ] || [ -s "$thinresnet" ] || { echo "$0: --thinresnet $thinresnet is no file" >&2; exit 2; }
  for arch in $archs; do
    b=$(name_of "$arch" baseline) r=$(name_of "$arch" robust)
    need "$exp/banks/$b/bank.json" 7
    need "$exp/banks/$r/bank.json" 7
    for verifier in $verifiers; do
      # shellcheck disable=SC2046,SC2086
      fresh "$exp/evaluation/$arch/$verifier/results.json" "$exp/banks/$b/bank.json" "$exp/banks/$r/bank.json" ||
        $hfprobe evaluate --encoder "$exp/encoders/$r" --probes "$exp/banks/$r" --encoder "$exp/encoders/$b" \
          --probes "$exp/banks/$b" --dataset "$test_set" --noise "$noise" --snr $snr \
          --verifier "$verifier$([ "$verifier" = ge2e ] || echo ":$thinresnet")" --speakers "$speakers" \
          --per-speaker "$per_speaker" --iterations "$iterations" --device "$device" \
          $([ "$verifier" != ge2e ] || echo --wer) --output "$exp/evaluation/$arch/$verifier"
    done
  done
  took 8
fi

if [ $stage -le 9 ] && [ $stop_stage -ge 9 ]; then
  echo "Stage 9: one page, and Table 2 beside the paper's"
  for verifier in $verifiers; do
    runs=()
    for arch in $archs; do
      need "$exp/evaluation/$arch/$verifier/results.json" 8
      runs+=("$exp/evaluation/$arch/$verifier")
    done
    $python local/beside_paper.py "${runs[@]}" --output "$exp/report/table2-$verifier.md"
  done
  # Two verifiers measure the same things differently: a page for each.
  for arch in $archs; do
    for verifier in $verifiers; do
      $hfprobe report "$exp/evaluation/$arch/$verifier" --title "What the layers of $arch carry ($verifier)" \
        --output "$exp/report/$arch-$verifier"
    done
  done
  took 9
fi
