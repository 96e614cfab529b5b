# How long each architecture trains on what, in ESPnet's options. Sourced by run.sh.
# 80 ms per frame leave few frames per character, so synthetic speech is slow (words a minute before the corpus name).

phases_of() { case $1 in blstm | transformer) echo 1 ;; vgg_blstm) echo 1 2 ;; *) echo "unknown architecture $1" >&2; exit 2 ;; esac; }

# The VGG-BLSTM has 40 ms frames, and CTC alone does not leave the plateau there within thousands of steps. It first
# learns the frame posteriors of the shipped BLSTM, with that one's upper layers as a start and its own convolutions
# held still; then its convolutions learn too, and CTC takes over.
teacher=blstm-baseline

# copied_layers FILE: --init_param of layers 2 to 5 and the CTC head (in the BLSTM they are block 0, after a VGG 1)
copied_layers() {
  local layer
  for layer in 1 2 3 4; do
    echo -n "$1:encoder.enc.0.birnn$layer:encoder.enc.1.birnn$layer $1:encoder.enc.0.bt$layer:encoder.enc.1.bt$layer "
  done
  echo "$1:ctc:ctc"
}

# start_options ARCH PHASE CORPUS TEACHER_WEIGHTS
start_options() {
  case $1-$2 in
    blstm-1)
      echo "--hf_train spoken:80-92:$3@0.4 $3@0.6 --hf_max_seconds 6.0 --num_iters_per_epoch 150 --max_epoch 4 --seed 1" ;;
    transformer-1)
      echo "--hf_train spoken:85-115:$3@0.4 $3@0.6 --hf_max_seconds 6.0 --num_iters_per_epoch 150 --max_epoch 8 --seed 1" \
        "--scheduler warmuplr --scheduler_conf warmup_steps=400" ;;
    vgg_blstm-1)
      echo "--hf_train spoken:85-115:$3@0.3 $3@0.7 --hf_max_seconds 3.5 --num_iters_per_epoch 100 --max_epoch 8 --seed 1" \
        "--hf_teacher $teacher --hf_teacher_weight 0.9 --freeze_param encoder.enc.0 --init_param $(copied_layers "$4")" ;;
    vgg_blstm-2)
      echo "--hf_train spoken:85-115:$3@0.3 $3@0.7 --hf_max_seconds 4.5 --num_iters_per_epoch 100 --max_epoch 6 --seed 2" \
        "--hf_teacher $teacher --hf_teacher_weight 0.3 --optim_conf lr=0.0008" ;;
  esac
}

# cycles_of ARCH: cycles of the learning rate after the common start
cycles_of() { case $1 in vgg_blstm) echo 1 2 ;; *) echo 1 ;; esac; }

# cycle_options ARCH KIND CYCLE CORPUS
cycle_options() {
  local epochs=9 steps=150 seconds=12.0 rate=80-95 share=0.3 peak=0.0015 div=5.0 start=0.0001 seed=2
  case $1-$2-$3 in
    blstm-robust-1) epochs=11 ;;  # harder data, for longer
    transformer-*) epochs=12 peak=0.001 ;;
    vgg_blstm-*-1) epochs=10 steps=100 seconds=5.0 rate=80-100 share=0.25 peak=0.001 div=3.0 start=0.0003 seed=3 ;;
    vgg_blstm-*-2) epochs=20 steps=100 seconds=5.0 rate=80-100 share=0.2 div=3.0 start=0.0005 seed=4 ;;
  esac
  echo "--hf_train spoken:$rate:$4@$share $4@$(awk "BEGIN{print 1 - $share}") --hf_max_seconds $seconds --seed $seed" \
    "--num_iters_per_epoch $steps --max_epoch $epochs --hf_clean_share 0.3 --optim_conf lr=$start" \
    "--scheduler onecyclelr --scheduler_conf max_lr=$peak --scheduler_conf total_steps=$((steps * epochs + 10))" \
    "--scheduler_conf pct_start=0.1 --scheduler_conf div_factor=$div --scheduler_conf final_div_factor=50.0"
}

# upper_speeds KIND CYCLE: at which speed each stored pass over the training set is played; a robust one has other noise, too
upper_speeds() {
  case $1-$2 in
    robust-1) echo 1.0 0.9 1.1 1.0 ;;
    robust-*) echo 1.0 0.9 1.1 1.0 0.95 ;;
    *) echo 1.0 0.9 1.1 ;;
  esac
}

# upper_options STEPS CYCLE: one cycle of the learning rate for the BLSTMs on stored states
upper_options() {
  echo "--seed $((3 + 2 * $2)) --optim_conf lr=0.001 --scheduler onecyclelr --scheduler_conf max_lr=0.002" \
    "--scheduler_conf total_steps=$(($1 + 30)) --scheduler_conf pct_start=$([ "$2" -gt 1 ] && echo 0.12 || echo 0.15)" \
    "--scheduler_conf div_factor=5.0 --scheduler_conf final_div_factor=50.0"
}
