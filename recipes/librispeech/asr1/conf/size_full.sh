# The paper's setting. Sourced by run.sh; options on the command line win.
: "${hidden:=320}"          # LSTM units in each direction, and width of each projection
: "${pieces:=300}"          # word pieces where characters do not fit
: "${epochs:=50}"           # passes over train-clean-100
: "${iters:=}"              # optimiser steps in an ESPnet epoch (empty: one pass)
: "${batch:=32}"            # utterances per GPU
: "${valid_limit:=3000}"    # utterances of dev-clean for validation: all
: "${workers:=8}"           # threads that decode and mix ahead
: "${stats_batches:=400}"   # batches of 16 for mean and variance of the features
: "${snr:=clean 20 10 0}"     # conditions of Table 1 and of the evaluation
: "${wer_per_speaker:=}"    # utterances of each speaker in Table 1 (empty: all)
: "${probe_steps:=20000}"
: "${probe_dim:=320}"       # width of the Highway layers
: "${probe_batch:=16}"
: "${probe_frames:=8192}"   # mel frames per layer and step
: "${speakers:=40}"         # of test-clean in the evaluation: all
: "${per_speaker:=20}"
: "${iterations:=32}"       # of Griffin-Lim
