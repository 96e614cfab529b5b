# How long each architecture trains on what, in ESPnet's options. Sourced by run.sh.
# 80 ms per frame leave few frames per character, so synthetic speech is slow (words a minute before the corpus name).

phases_of() { case $1 in blstm) echo 1 ;; vgg_blstm) echo 1 2 ;; *) echo "unknown architecture $1" >&2; exit 2 ;; esac; }

# start_options ARCH PHASE CORPUS
start_options() {
  case $1-$2 in
    blstm-1)
      echo "--hf_train spoken:80-92:$3@0.4 $3@0.6 --hf_max_seconds 6.0 --num_iters_per_epoch 150 --max_epoch 4 --seed 1" ;;
    vgg_blstm-1)
      echo "--hf_train spoken:85-115:$3@0.3 $3@0.7 --hf_max_seconds 3.5 --num_iters_per_epoch 100 --max_epoch 3 --seed 1 --optim_conf lr=0.001" ;;
    vgg_blstm-2)
      echo "--hf_train spoken:85-115:$3@0.3 $3@0.7 --hf_max_seconds 5.0 --num_iters_per_epoch 100 --max_epoch 30 --seed 1 --optim_conf lr=0.001" ;;
  esac
}

# final_options ARCH KIND CORPUS: one cycle of the learning rate; the robust model sees harder data for longer
final_options() {
  local epochs=9
  [ "$2" = robust ] && epochs=11
  echo "--hf_train spoken:80-95:$3@0.3 $3@0.7 --hf_max_seconds 12.0 --num_iters_per_epoch 150 --max_epoch $epochs --seed 2" \
    "--hf_clean_share 0.3 --optim_conf lr=0.0001 --scheduler onecyclelr --scheduler_conf max_lr=0.0015" \
    "--scheduler_conf total_steps=$((150 * epochs + 10)) --scheduler_conf pct_start=0.1" \
    "--scheduler_conf div_factor=5.0 --scheduler_conf final_div_factor=50.0"
}
